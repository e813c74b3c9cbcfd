/** Where a user's programs keep what can be made again. */

import { homedir } from "node:os";
import { join } from "node:path";

/** The folder for Troupe's, by the platform's custom; it may not be there yet. */
export function cacheFolder(): string {
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (XDG_CACHE_HOME) return join(XDG_CACHE_HOME, "troupe");
  if (process.platform === "win32") return join(LOCALAPPDATA ?? homedir(), "troupe", "cache");
  if (process.platform === "darwin") return join(homedir(), "Library", "Caches", "troupe");
  return join(homedir(), ".cache", "troupe");
}
