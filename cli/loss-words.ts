/**
 * Why a device is gone, in words: a user knows devices by their names, and not by the addresses of connections, of which some
 * are of shared memory that nobody has named.
 */

import { type DownReason, downText } from "../runtime/index.ts";

const ADDRESS = String.raw`\b([a-z][a-z0-9]*):\/\/\S+?(?=[:,;)]?(?:\s|$))`;
const CLOSED = `${ADDRESS} closed the link: `;
/** The other end has given this one up: what it calls this one is of no use here. */
const CLOSED_AS_SILENT = new RegExp(String.raw`${CLOSED}\S+ has been silent for (\d+) ms`, "g");
const LOST_NODE = /\bnode (\S+) \((\S+)\) is lost: /g;

/**
 * The same in terms of devices and their links.
 * @param nameOf what the device of a node is called in the run, by the node's id; undefined where it is none of the run's.
 */
export function linkWords(text: string, nameOf: (node: string) => string | undefined): string {
  return text
    .replace(LOST_NODE, (_, name: string, id: string) => `${nameOf(id) ?? name} is gone: `)
    .replace(CLOSED_AS_SILENT, "its link ($1) was closed from there, where nothing was heard for $2 ms")
    .replace(new RegExp(CLOSED, "g"), "its link ($1) was closed from there: ")
    .replace(new RegExp(ADDRESS, "g"), "its link ($1)");
}

/** Whether it was given up as silent, by either end: its process need not have ended. */
export function isSilent({ error }: DownReason): boolean {
  return (error?.cause as { code?: unknown } | undefined)?.code === "LINK_SILENT";
}

/** Why a device is gone that has been named, and whose process has not said so. */
export function lossText(reason: DownReason, nameOf: (node: string) => string | undefined): string {
  const { code, error, silentMs = 0 } = reason;
  const cause = error?.cause as Error | undefined;
  if (code !== "nodelost" || !cause) return linkWords(downText(reason), nameOf);
  if (isSilent(reason) && /^\S+ has been silent for /.test(cause.message))
    return `it has been silent for ${Math.round(silentMs)} ms`;
  return linkWords(cause.message, nameOf);
}
