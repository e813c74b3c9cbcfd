/** A node's state in Prometheus' text format (version 0.0.4). */

import type { NodeStatus } from "../node_status.ts";
import type { Traffic } from "./counted.ts";

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

interface Metric {
  readonly name: string;
  readonly type: "gauge" | "counter";
  readonly help: string;
  readonly samples: readonly Sample[];
}

export function metrics(status: NodeStatus, traffic: readonly Traffic[]): string {
  const one = (value: number): readonly Sample[] => [[{}, value]];
  const byScheme = (value: (of: Traffic) => number): readonly Sample[] =>
    traffic.map((of) => [{ transport: of.scheme }, value(of)]);
  const list: readonly Metric[] = [
    {
      ...{ name: "troupe_node_info", type: "gauge", help: "This node; always 1." },
      samples: [[{ id: status.id, name: status.name }, 1]],
    },
    {
      ...{
        name: "troupe_start_time_seconds",
        type: "gauge",
        help: "When the node was started, since the epoch.",
      },
      samples: one(status.incarnation / 1000),
    },
    {
      ...{ name: "troupe_peers", type: "gauge", help: "Connected nodes." },
      samples: tally(status.peers.map(({ transport, route }) => ({ transport, route }))),
    },
    { name: "troupe_actors", type: "gauge", help: "Actors that live here.", samples: one(status.actors) },
    {
      ...{
        name: "troupe_messages_received_total",
        type: "counter",
        help: "Messages that came from other nodes.",
      },
      samples: one(status.messagesReceived),
    },
    {
      ...{ name: "troupe_dead_letters_total", type: "counter", help: "Messages that nobody handled." },
      samples: one(status.deadLetters),
    },
    {
      ...{ name: "troupe_bytes_sent_total", type: "counter", help: "Bytes accepted by pipes." },
      samples: byScheme((of) => of.sentBytes),
    },
    {
      ...{ name: "troupe_bytes_received_total", type: "counter", help: "Bytes delivered by pipes." },
      samples: byScheme((of) => of.receivedBytes),
    },
    {
      ...{ name: "troupe_pipes_open", type: "gauge", help: "Open pipes." },
      samples: byScheme((of) => of.openPipes),
    },
    {
      ...{
        name: "troupe_relayed_pipes",
        type: "gauge",
        help: "Pipes between other nodes that pass through here.",
      },
      samples: one(status.relayed.pipes),
    },
    {
      ...{
        name: "troupe_relayed_bytes",
        type: "gauge",
        help: "Bytes of relayed pipes that are under way here.",
      },
      samples: one(status.relayed.bytes),
    },
  ];
  return list.map(format).join("");
}

function format({ name, type, help, samples }: Metric): string {
  const lines = samples.map(([labels, value]) => {
    const inner = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`);
    return `${name}${inner.length > 0 ? `{${inner.join(",")}}` : ""} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

/** One sample for each set of labels, with how often it is there. */
function tally(all: readonly Record<string, string>[]): Sample[] {
  const counts = new Map<string, number>();
  for (const labels of all) {
    const key = JSON.stringify(labels);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].map(([key, count]) => [JSON.parse(key), count]);
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
