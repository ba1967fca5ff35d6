/** A single-file component as a module: `node compile_vue.mjs App.vue`, in a folder with Vue. */

import { readFileSync, writeFileSync } from "node:fs";
import { compileScript, parse } from "vue/compiler-sfc";

const [, , file] = process.argv;
const { descriptor, errors } = parse(readFileSync(file, "utf8"), { filename: file });
if (errors.length > 0) throw errors[0];
const { content } = compileScript(descriptor, { id: "app", inlineTemplate: true });
writeFileSync(file.replace(/\.vue$/, ".js"), content);
