/**
 * Which web pages may open a WebSocket here. A browser lets any page connect to any address, so a page of a
 * stranger, opened on a machine that runs a node, could talk to it; a browser says in `Origin` whose page it is.
 *
 * Accepted are: requests without an `Origin` (not from a page), pages that this very address served, and pages
 * whose origin was named. "This very address" counts only where the name cannot be pointed here by a stranger's
 * DNS (rebinding): an IP address, `localhost`, or a `.local` name of the local network. This is beside the join
 * token, not instead of it.
 */

export function originAllowed(origin: string | null, host: string | null, named: readonly string[]): boolean {
  if (origin === null) return true;
  if (named.includes(origin)) return true;
  if (host === null || !URL.canParse(origin) || new URL(origin).host !== host) return false;
  const { hostname } = new URL(origin);
  return hostname === "localhost" || hostname.endsWith(".local") || /^(\[.*\]|[\d.]+)$/.test(hostname);
}
