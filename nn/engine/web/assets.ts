/**
 * Where the files of onnxruntime-web are: in the package, where there is one; beside the script in a browser.
 *
 * A page that wants the web engine bundles `nn/engine/web/worker.ts` as `engine-web.js` and serves it, and the
 * files named here, beside its own script.
 */

/** What a page serves from onnxruntime-web's `dist` folder. */
export const WEB_ASSETS = ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"] as const;

/** The URL of one of onnxruntime-web's files. */
export function assetUrl(name: string): string {
  return isBundled() ? new URL(name, import.meta.url).href : import.meta.resolve(`onnxruntime-web/${name}`);
}

/** Whether this runs from a bundle in a browser, and not from the sources. */
export function isBundled(): boolean {
  return !import.meta.url.startsWith("file:");
}
