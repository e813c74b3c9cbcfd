/** Which hosts are this machine and no other: where plain text is allowed without asking. */

/** @param hostname without the brackets of an IPv6 address. A name that only begins like 127. is not meant. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}
