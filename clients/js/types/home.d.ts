/**
 * The hub that served these modules, where one did: `served.js` says so. Modules of a bundle do not
 * know where they came from: `import.meta` is a syntax error in scripts, CommonJS and Hermes, and
 * bundlers put the build machine's path there.
 */
export declare const home: {
    url: string;
};
