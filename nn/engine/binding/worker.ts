/** The script of the node-binding engine's worker thread. */

import * as ort from "onnxruntime-node";
import { OperatorTimes } from "../profile.ts";
import { type OrtModule, SessionBackend } from "../session-backend.ts";
import { serveBackend } from "../worker.ts";

ort.env.logLevel = "fatal";
const times = () => new OperatorTimes();
serveBackend(() => new SessionBackend(ort as unknown as OrtModule, () => performance.now(), times));
