/** The script of the native engine's worker thread. */

import { EngineError } from "../engine.ts";
import { serveBackend } from "../worker.ts";
import { NativeBackend } from "./backend.ts";
import { openForeign } from "./ffi.ts";
import { openLibrary } from "./library.ts";
import { nameKernelThread } from "./thread.ts";

nameKernelThread();
serveBackend(async () => {
  const foreign = await openForeign();
  const library = foreign && openLibrary(foreign);
  if (!library) throw new EngineError("no ONNX Runtime library for this platform");
  return new NativeBackend(library, foreign, () => performance.now());
});
