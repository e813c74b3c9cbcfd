/** Who joins is measured to a few of many others, of every kind, and what is not measured is estimated by what is. */

import { expect, test } from "bun:test";
import {
  type JoinedProfile,
  type Known,
  MOST_PEERS,
  peersOf,
  withJoined,
} from "../../actors/profile-join.ts";
import { UNREACHABLE } from "../../actors/recovery/links.ts";
import type { LinkProfile, Profile } from "../../actors/scheduler/cost.ts";

const known = (id: number, host: string) => ({ id: `${id}`, description: { host } }) as unknown as Known;
const stagesOf = (...members: readonly number[][]) => ({
  stages: members.map((own, stage) => ({ stage, members: own.map((id) => ({ device: `${id}` })) })) as never,
});
const ids = (peers: readonly Known[]) => peers.map(({ id }) => Number(id));

test("of few others all are peers", () => {
  const others = [0, 1, 2].map((i) => known(i, "same"));
  expect(peersOf(known(9, "same"), others, stagesOf([0], [1, 2]))).toEqual(others);
});

test("of many others some of each stage are, on other machines each, and one of the same machine", () => {
  const others = Array.from({ length: 100 }, (_, i) => known(i, `host-${Math.floor(i / 2)}`));
  const plan = stagesOf(
    others.slice(0, 50).map((_, i) => i),
    others.slice(50, 60).map((_, i) => 50 + i),
    [70],
  );
  const peers = ids(peersOf(known(200, "host-3"), others, plan));
  expect(peers).toHaveLength(MOST_PEERS);
  expect(new Set(peers).size).toBe(MOST_PEERS);
  expect(peers.filter((id) => id === 6 || id === 7)).toHaveLength(1);
  expect(peers.filter((id) => id < 50).length).toBeGreaterThanOrEqual(2);
  expect(peers.filter((id) => id >= 50 && id < 60).length).toBeGreaterThanOrEqual(2);
  expect(peers).toContain(70);
  expect(new Set(peers.map((id) => Math.floor(id / 2))).size).toBe(MOST_PEERS);
});

test("not all who join go to the same", () => {
  const others = Array.from({ length: 200 }, (_, i) => known(i, `host-${i}`));
  const plan = stagesOf(
    others.slice(0, 100).map((_, i) => i),
    others.slice(100).map((_, i) => 100 + i),
  );
  const asked = Array.from({ length: 100 }, (_, i) =>
    ids(peersOf(known(1000 + i, "new"), others, plan)),
  ).flat();
  const most = Math.max(...asked.map((id) => asked.filter((other) => other === id).length));
  expect(most).toBeLessThanOrEqual(30);
});

const link = (bytesPerMs: number, latencyMs: number): LinkProfile => ({ bytesPerMs, latencyMs });
const profile: Profile = {
  devices: Object.fromEntries(["fast", "slow", "beside", "peer", "alone"].map((id) => [id, {} as never])),
  links: {
    fast: { peer: link(1000, 1), slow: link(100, 5) },
    slow: { peer: link(100, 5), fast: link(100, 5) },
    beside: { peer: link(1000, 1) },
    peer: { fast: link(1000, 1), slow: link(100, 5) },
  },
  hosts: { fast: "a", slow: "b", beside: "c", peer: "d", alone: "e" },
  controlMs: { fast: 1 },
  cores: 4,
};
const joined: JoinedProfile = {
  ...{ id: "new", host: "c", key: "k", own: { codecMsPerMb: {} } as never, controlMs: 3 },
  links: [{ other: "peer", there: link(500, 2), back: link(400, 2) }],
};

test("what was measured is taken as it is, what was not is as slow as either end's own line", () => {
  const { links, devices, controlMs, hosts, cores } = withJoined(profile, joined);
  expect(links.new!.peer).toEqual(link(500, 2));
  expect(links.peer!.new).toEqual(link(400, 2));
  expect(links.new!.fast).toEqual(link(500, 2));
  expect(links.fast!.new).toEqual(link(400, 2));
  expect(links.new!.slow).toEqual(link(100, 5));
  expect(links.slow!.new).toEqual(link(100, 5));
  // Of a device that nothing is known of it is the other's line.
  expect(links.new!.alone).toEqual(link(500, 2));
  expect(devices.new).toBe(joined.own);
  expect([controlMs!.new, hosts!.new, cores]).toEqual([3, "c", undefined]);
  expect(links.fast!.peer).toEqual(profile.links.fast!.peer!);
  expect(profile.links.new).toBeUndefined();
});

test("a line within a machine is estimated by another one within it alone", () => {
  expect(withJoined(profile, joined).links.new!.beside).toBeUndefined();
  const devices = { ...profile.devices, twin: {} as never };
  const hosts = { ...profile.hosts, twin: "c" };
  const near = { other: "beside", there: link(1e5, 0.1), back: link(2e5, 0.1) };
  const { links } = withJoined({ ...profile, devices, hosts }, { ...joined, links: [...joined.links, near] });
  expect([links.new!.twin, links.twin!.new]).toEqual([near.there, near.back]);
  expect(links.new!.fast).toEqual(link(500, 2));
});

test("that somebody was not reached is no estimate of others", () => {
  const cut = { other: "peer", there: UNREACHABLE, back: UNREACHABLE };
  const { links } = withJoined(profile, { ...joined, links: [cut] });
  expect(links.new!.peer).toEqual(UNREACHABLE);
  expect(links.new!.fast).toEqual(link(1000, 1));
});
