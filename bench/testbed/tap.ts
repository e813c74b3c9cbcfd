/**
 * TAP devices of Linux: network interfaces whose frames a program reads and writes. They are opened with the header that
 * says what the kernel has left undone of a frame (check sums, segmentation), so that large segments pass as one; see
 * Documentation/networking/tuntap.rst in the sources of Linux. An interface lives as long as its program.
 */

import { dlopen, FFIType, ptr } from "bun:ffi";

const { i32, u64, i64 } = FFIType;
const pointer = FFIType.ptr;

const libc = dlopen("libc.so.6", {
  open: { args: [pointer, i32], returns: i32 },
  ioctl: { args: [i32, u64, u64], returns: i32 },
  read: { args: [i32, pointer, u64], returns: i64 },
  write: { args: [i32, pointer, u64], returns: i64 },
  ppoll: { args: [pointer, u64, pointer, pointer], returns: i32 },
}).symbols;

const O_RDWR_NONBLOCK = 0x802;
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
/** TAP, without packet information, with the header for offloading. */
const FLAGS = 0x0002 | 0x1000 | 0x4000;
/** Check sums, and segments of TCP over IPv4 and IPv6. */
const OFFLOADS = 0x01 | 0x02 | 0x04;
const NAME_BYTES = 16;
const REQUEST_BYTES = 40;
const POLLIN = 1;
const POLL_BYTES = 8;

/** A frame of 64 KiB with all its headers. */
const MOST_FRAME_BYTES = 66_000;
const scratch = new Uint8Array(MOST_FRAME_BYTES);

export class Tap {
  readonly file: number;

  /** Makes an interface of this name in the namespace of this thread. @throws Error where it is not to be had. */
  constructor(name: string) {
    const path = new TextEncoder().encode("/dev/net/tun\0");
    this.file = libc.open(ptr(path), O_RDWR_NONBLOCK);
    if (this.file < 0) throw new Error("/dev/net/tun cannot be opened: is the module tun there?");
    const request = new Uint8Array(REQUEST_BYTES);
    new TextEncoder().encodeInto(name, request.subarray(0, NAME_BYTES - 1));
    new DataView(request.buffer).setUint16(NAME_BYTES, FLAGS, true);
    if (libc.ioctl(this.file, TUNSETIFF, ptr(request)) < 0)
      throw new Error(`no TAP device ${name} can be made`);
    if (libc.ioctl(this.file, TUNSETOFFLOAD, OFFLOADS) < 0) throw new Error(`${name} refuses offloading`);
  }

  /** The next frame the system sends through the interface; undefined when there is none. */
  read(): Uint8Array<ArrayBuffer> | undefined {
    const bytes = Number(libc.read(this.file, ptr(scratch), scratch.byteLength));
    return bytes > 0 ? scratch.slice(0, bytes) : undefined;
  }

  /** Has the system receive a frame. One that it has no room for is lost, as on any network. */
  write(frame: Uint8Array<ArrayBuffer>): void {
    libc.write(this.file, ptr(frame), frame.byteLength);
  }
}

/** Waits until one of the files can be read, or so many milliseconds; returns which can. */
export function waitForAny(files: readonly number[], ms: number): boolean[] {
  const asked = new DataView(new ArrayBuffer(files.length * POLL_BYTES));
  files.forEach((file, i) => {
    asked.setInt32(i * POLL_BYTES, file, true);
    asked.setInt16(i * POLL_BYTES + 4, POLLIN, true);
  });
  const forever = !Number.isFinite(ms);
  const seconds = forever ? 0 : Math.floor(ms / 1000);
  const timeout = BigInt64Array.of(
    BigInt(seconds),
    BigInt(forever ? 0 : Math.round((ms - seconds * 1000) * 1e6)),
  );
  libc.ppoll(ptr(asked), files.length, forever ? null : ptr(timeout), null);
  return files.map((_, i) => asked.getInt16(i * POLL_BYTES + 6, true) !== 0);
}
