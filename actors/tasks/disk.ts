/** A folder on the disk as the readers of model folders see one. */

import type { Folder } from "../../nn/hf/folder.ts";
import type { Files } from "../../runtime/platform/files.ts";

export function diskFolder(files: Files, path: string): Folder {
  const inside = (file: string) => `${path}/${file}`;
  return {
    name: path.replace(/^.*\/(?=.)/, ""),
    list: async () => {
      const sizes = new Map<string, number>();
      for (const name of await files.list(path)) {
        if (await files.isFile(inside(name))) sizes.set(name, await files.size(inside(name)));
      }
      return sizes;
    },
    read: (file) => files.read(inside(file)),
    readRange: (file, start, end) => files.readRange(inside(file), start, end),
  };
}
