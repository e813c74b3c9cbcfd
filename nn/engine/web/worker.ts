/** The script of the web engine's worker thread. */

import { serveBackend } from "../worker.ts";
import { openWeb } from "./backend.ts";

serveBackend(openWeb);
