/** Why devices are gone, as people read it: by names, and by what a link is, but never by its address. */

import { expect, test } from "bun:test";
import { linkWords, lossText } from "../../cli/loss-words.ts";
import { type DownReason, LinkClosedByPeer, RuntimeError } from "../../runtime/index.ts";

const nameOf = (node: string) => (node === "pi-1234" ? "pi-2" : undefined);

const WORDS: readonly (readonly [string, string])[] = [
  [
    "node pi (pi-1234) is lost: shm://1o3x1o471m4q has been silent for 6000 ms",
    "pi-2 is gone: its link (shm) has been silent for 6000 ms",
  ],
  [
    "node desk (desk-99) is lost: tcp://10.0.0.1:4000 has read nothing for 6000 ms",
    "desk is gone: its link (tcp) has read nothing for 6000 ms",
  ],
  ["tcp://[::1]:4000 closed the connection", "its link (tcp) closed the connection"],
  [
    "node pi (pi-1234) is lost: shm://5c1d closed the link: shm://77aa has been silent for 6000 ms",
    "pi-2 is gone: its link (shm) was closed from there, where nothing was heard for 6000 ms",
  ],
  ["shm://5c1d closed the link: it is full", "its link (shm) was closed from there: it is full"],
  ["tcp://10.0.0.1:4000: ECONNRESET", "its link (tcp): ECONNRESET"],
  ["there is no graph", "there is no graph"],
];

test.each(WORDS)("%s", (said, words) => {
  expect(linkWords(said, nameOf)).toBe(words);
});

/** As a monitor is told of a device whose node's link ended so. */
function lost(cause: Error, silentMs: number): DownReason {
  const error = new RuntimeError("NODE_LOST", `node pi (pi-1234) is lost: ${cause.message}`, { cause });
  return { code: "nodelost", message: error.message, error, node: "pi-1234", silentMs };
}

test("who was silent was silent; who has heard nothing from here was not", () => {
  const silent = new RuntimeError("LINK_SILENT", "shm://1o3x has been silent for 6000 ms");
  expect(lossText(lost(silent, 6000.4), nameOf)).toBe("it has been silent for 6000 ms");
  const unread = new RuntimeError("LINK_SILENT", "shm://1o3x has read nothing for 6000 ms");
  expect(lossText(lost(unread, 3), nameOf)).toBe("its link (shm) has read nothing for 6000 ms");
  const there = new LinkClosedByPeer(
    "LINK_SILENT",
    "tcp://10.0.0.1:4000 closed the link: tcp://10.0.0.9:51000 has been silent for 6000 ms",
  );
  expect(lossText(lost(there, 3), nameOf)).toBe(
    "its link (tcp) was closed from there, where nothing was heard for 6000 ms",
  );
});

test("a device that crashed says why in its own words, without addresses", () => {
  const error = new Error("node desk (desk-99) is lost: tcp://10.0.0.1:4000 closed the connection");
  expect(lossText({ code: "error", message: "it crashed", error }, nameOf)).toBe(
    "desk is gone: its link (tcp) closed the connection",
  );
  expect(lossText({ code: "noactor", message: "there is no actor" }, nameOf)).toBe("there is no actor");
});
