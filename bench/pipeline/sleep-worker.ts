/** The thread that sleeps; see `sleep.ts`. */

import { serveBackend } from "../../nn/engine/worker.ts";
import { SleepingBackend } from "./sleep.ts";

serveBackend(() => new SleepingBackend());
