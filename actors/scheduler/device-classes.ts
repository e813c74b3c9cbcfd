/**
 * Devices that people have, by name: how fast each trains, what it holds, what it draws. For imagined clusters, for
 * emulated ones (what counts there is the ratio of speeds), and for the energy of a device that nobody measures. A device
 * that is there is measured instead.
 *
 * Where figures come from. What a processor sustains is its result in High-Performance Linpack, which is in f64, twice
 * that in f32, and of that 0.7: a step takes here some 1.4 times as long as its products alone. What a graphics processor
 * sustains is a third of its peak in f32 (cores · clock · 2), where small batches and their memory's bandwidth leave it;
 * on a Jetson Nano that is 79 GFLOP/s, where single images through ResNet-50 and VGG-16 have been seen at 40 to 55
 * (CortexFoundation/cvm-runtime). Results marked [HPL] are those of github.com/geerlingguy/top500-benchmark, with what the
 * whole machine drew meanwhile; [sheet] is the maker's data sheet. What is marked [memory] is a figure without a page to
 * point at, and should be measured where it matters.
 *
 * Memory is what the device is sold with less what its system takes: a quarter on the small ones. Bandwidth is what
 * copying sustains, 60 % of the peak of its memory.
 *
 * A byte costs what its interface draws above rest at its full rate: with Ethernet about 1 W at 117 MB/s, its share of a
 * core included [memory]; with Wi-Fi 1.3 W to send and 0.9 W to receive at some 100 Mbit/s (Halperin et al., "Demystifying
 * 802.11n Power Consumption", HotPower 2010) [memory].
 */

import type { MachineKind } from "../../runtime/platform/machine.ts";
import type { DevicePower } from "../energy/model.ts";

export interface DeviceClass {
  /** GFLOP/s (1e9) that training sustains in f32. */
  readonly gflops: number;
  /** GB/s (1e9) that its memory sustains. */
  readonly memoryGBps: number;
  /** What a stage may use. */
  readonly memoryBytes: number;
  readonly power: DevicePower;
}

const GIB = 2 ** 30;
const ETHERNET: PerByte = { sentJoulesPerByte: 1e-8, receivedJoulesPerByte: 1e-8 };
const WIFI: PerByte = { sentJoulesPerByte: 1e-7, receivedJoulesPerByte: 7.5e-8 };

type PerByte = Omit<DevicePower, "idleWatts" | "busyWatts">;

export const DEVICE_CLASSES = {
  // 11.9 GFLOP/s, 7.2 W [HPL]; 2.7 W at rest (pidramble.com); 4 GiB LPDDR4-3200, 32 bits wide [sheet].
  "raspberry-pi-4": of(17, 7.7, 3 * GIB, 2.7, 7.2, ETHERNET),
  // 30.2 GFLOP/s, 11 W [HPL]; 2.9 W at rest, of the same board in a 500+ (geerlingguy/sbc-reviews, issue 81); 8 GiB LPDDR4X-4267, 32 bits wide [sheet].
  "raspberry-pi-5": of(42, 10, 6 * GIB, 2.9, 11, ETHERNET),
  // 128 Maxwell cores at 0.92 GHz, 4 GiB, 25.6 GB/s, 10 W [sheet]; 2 W at rest [memory].
  "jetson-nano": of(79, 15, 3 * GIB, 2, 10, ETHERNET),
  // 256 Pascal cores at 1.3 GHz, 8 GiB, 59.7 GB/s, 15 W [sheet]; 3 W at rest [memory].
  "jetson-tx2": of(222, 36, 6 * GIB, 3, 15, ETHERNET),
  // 384 Volta cores at 1.1 GHz, 8 GiB, 59.7 GB/s, 15 W [sheet]; 4 W at rest [memory].
  "jetson-xavier-nx": of(282, 36, 6 * GIB, 4, 15, ETHERNET),
  // 1024 Ampere cores at 0.625 GHz, 8 GiB, 68 GB/s, 15 W [sheet]; 4 W at rest [memory].
  "jetson-orin-nano": of(427, 41, 6 * GIB, 4, 15, ETHERNET),
  // Snapdragon 865: 58 + 116 + 45 GFLOP/s of its three kinds of cores at peak, a quarter of which its heat allows for
  // long; 8 GiB LPDDR5, 44 GB/s [sheet]; 1 W with the screen dimmed, 5 W [memory].
  phone: of(55, 26, 3 * GIB, 1, 5, WIFI),
  // Apple M2 (MacBook Air): 104.7 GFLOP/s [HPL]; 100 GB/s [sheet]; 5 W at rest, 25 W [memory]; 16 GiB.
  laptop: of(147, 60, 12 * GIB, 5, 25, WIFI),
  // AMD Ryzen 5 5600X: 229 GFLOP/s, 196 W [HPL]; DDR4-3200 on two channels, 51.2 GB/s [sheet]; 50 W at rest [memory]; 32 GiB.
  desktop: of(321, 31, 28 * GIB, 50, 196, ETHERNET),
  // NVIDIA RTX 3080: 8704 cores at 1.71 GHz, 10 GiB, 760 GB/s, 320 W [sheet], in a desktop that draws 80 W beside it, and
  // 60 W at rest with it [memory].
  "desktop-gpu": of(9922, 456, 9 * GIB, 60, 400, ETHERNET),
} as const satisfies Record<string, DeviceClass>;

export type DeviceClassName = keyof typeof DEVICE_CLASSES;

export function isDeviceClass(name: string): name is DeviceClassName {
  return Object.hasOwn(DEVICE_CLASSES, name);
}

/** Boards, by what their device trees call them. */
const BOARDS: readonly (readonly [RegExp, DeviceClassName])[] = [
  [/Raspberry Pi (4|400|Compute Module 4)\b/, "raspberry-pi-4"],
  [/Raspberry Pi (5|500|Compute Module 5)\b/, "raspberry-pi-5"],
  [/Orin Nano/, "jetson-orin-nano"],
  [/Jetson Nano/, "jetson-nano"],
  [/TX2/, "jetson-tx2"],
  [/Xavier NX/, "jetson-xavier-nx"],
];

/** The class that is most like a machine, for its power where nobody measures that. @param engine what it trains with. */
export function classOfMachine({ model, portable, system }: MachineKind, engine: string): DeviceClassName {
  const board = BOARDS.find(([pattern]) => pattern.test(model ?? ""));
  if (board) return board[1];
  if (system === "android") return "phone";
  if (portable) return "laptop";
  return engine === "webgpu" ? "desktop-gpu" : "desktop";
}

function of(
  gflops: number,
  memoryGBps: number,
  memoryBytes: number,
  idleWatts: number,
  busyWatts: number,
  perByte: PerByte,
): DeviceClass {
  return { gflops, memoryGBps, memoryBytes, power: { idleWatts, busyWatts, ...perByte } };
}
