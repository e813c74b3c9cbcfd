/** Profiles of earlier runs on the command line: devices that were measured for a model are not measured again. */

import { ProfileCache } from "../actors/profile-cache.ts";
import { cacheFolder } from "../runtime/platform/cache.ts";
import { files } from "../runtime/platform/files.ts";
import type { OptionSpec } from "./options.ts";

export const FRESH_PROFILE: OptionSpec = {
  help: "measure the devices anew, whatever was measured for the same model before",
};

/**
 * Those of this user.
 * @param fresh what is there is not used, and replaced.
 * @param note told in a line what is wrong with the file.
 */
export function profilesOf(fresh: boolean, note: (line: string) => void): ProfileCache {
  return new (fresh ? FreshProfiles : ProfileCache)(files, cacheFolder(), note);
}

class FreshProfiles extends ProfileCache {
  override async get(): Promise<undefined> {}
}
