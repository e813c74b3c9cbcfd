#!/usr/bin/env bun
/** The process behind `troupe`: what it was given, and how it ends. */

import { exit, onStarterGone, processArguments, signalSelf } from "../runtime/platform/process.ts";
import { perform } from "./perform.ts";

// Whoever would end it is not there any more.
onStarterGone(() => signalSelf("SIGHUP"));

await exit(await perform(processArguments()));
