/**
 * `npm run build`: builds what is made of `src/`: the one file that a hub serves, checked in as
 * `hub/pages/client.min.js` (alone with `--served`), and the package's `dist/` for CommonJS and plain
 * scripts (alone with `--package`). TypeScript takes types for a module's, or for CommonJS, by where they are: so
 * `dist/` has those of `types/` as well.
 */

import { cpSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const common = { absWorkingDir: import.meta.dirname, bundle: true, minify: true, logLevel: "error" };

const [only] = process.argv.slice(2);
if (only !== "--package") {
  const outfile = "../../hub/pages/client.min.js";
  await build({ ...common, entryPoints: ["src/served.js"], format: "esm", outfile });
}
if (only !== "--served") {
  const script = { format: "iife", globalName: "broadcastHub" };
  await build({ ...common, entryPoints: ["src/hub.js"], ...script, outfile: "dist/hub.iife.js" });
  for (const name of ["hub", "react", "vue"]) {
    const whole = name === "hub" ? {} : { external: ["react", "vue"] };
    const outfile = `dist/${name}.cjs`;
    await build({ ...common, ...whole, minify: false, entryPoints: [`src/${name}.js`], format: "cjs", outfile });
  }
  const folder = import.meta.dirname;
  cpSync(`${folder}/types`, `${folder}/dist/types`, { recursive: true });
  writeFileSync(`${folder}/dist/package.json`, '{ "type": "commonjs" }\n');
}
