/**
 * What everything is called that a testbed makes: with the number of the process it belongs to, so that what a dead one
 * has left is known at the next start. Names of network links may have 15 characters.
 */

const PREFIX = "troupe-bed-";
const LINK_PREFIX = "tb";

/** Of control groups and, with a device's number behind it, of network namespaces. */
export const groupName = (owner: number) => `${PREFIX}${owner}`;
export const namespaceName = (owner: number, device: number) => `${groupName(owner)}-${device}`;
export const bridgeName = (owner: number) => `${LINK_PREFIX}${owner}br`;
/** A device's end of the cable that is in the bridge. */
export const portName = (owner: number, device: number) => `${LINK_PREFIX}${owner}p${device}`;
/** The end that goes to the device, until it is moved and renamed. */
export const tapName = (owner: number, device: number) => `${LINK_PREFIX}${owner}t${device}`;

/** The process that something of such a name belongs to; undefined for what is not of a testbed. */
export function ownerOf(name: string): number | undefined {
  const match = /^troupe-bed-(\d+)(?:-\d+)?$/.exec(name) ?? /^tb(\d+)(?:br|[pt]\d+)$/.exec(name);
  return match ? Number(match[1]) : undefined;
}
