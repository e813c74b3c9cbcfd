/** Pictures in JPEG, decoded by jpeg-js: baseline and progressive, grey and colour. */

import { decode } from "jpeg-js";
import { type PictureFormat, planar } from "./picture.ts";

/** Of one picture: a camera's largest fit, a file that claims more is not decoded. */
const LIMITS = { maxResolutionInMP: 200, maxMemoryUsageInMB: 2048 };

export const jpeg: PictureFormat = {
  name: "JPEG",
  extensions: [".jpg", ".jpeg"],
  recognises: (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8,
  decode: (bytes) => {
    const { width, height, data } = decode(bytes, { useTArray: true, formatAsRGBA: false, ...LIMITS });
    return planar(data, { width, height }, 3);
  },
};
