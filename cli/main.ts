#!/usr/bin/env bun
/** The process behind `troupe`: what it was given, and how it ends. */

import { exit, processArguments } from "../runtime/platform/process.ts";
import { perform } from "./perform.ts";

await exit(await perform(processArguments()));
