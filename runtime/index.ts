/** The actor runtime: refs, supervision, monitors, nodes and transports. Useful with no neural network in sight. */

export { Actor, type ActorClass, type ActorContext } from "./actor.ts";
export {
  CHILD_INTENSITY,
  type ChildOptions,
  type ChildSpec,
  child,
  type SupervisorSpec,
  TREE_CAP,
} from "./child_spec.ts";
export { type Clock, systemClock, type Timer, VirtualClock } from "./clock.ts";
export { DEAD_LETTER_CODES, type DeadLetter, type DeadLetterCode } from "./deadletters.ts";
export { DEFAULT_HEARTBEAT, type Heartbeat } from "./detector.ts";
export { DynamicSupervisor, type DynamicSupervisorSpec } from "./dynamic_supervisor.ts";
export { ActorFailure, LinkClosedByPeer, RuntimeError, type RuntimeErrorCode } from "./errors.ts";
export { type GroupEvent, Groups } from "./groups.ts";
export type { Intensity } from "./intensity.ts";
export { consoleLog, type Log, type LogEntry } from "./log.ts";
export type { PeerEvent } from "./membership.ts";
export type { Down, DownReason, Monitor } from "./monitor.ts";
export { narrow } from "./narrow.ts";
export { type NodeOptions, NodeRuntime, type SpawnOptions } from "./node.ts";
export type { PeerInfo } from "./peer.ts";
export { MemoryPool, type PoolCounts, type PoolOptions } from "./pool.ts";
export { type Random, seededRandom, systemRandom } from "./random.ts";
export type { Ask, AskOptions, Ref, Tell } from "./ref.ts";
export { type Certificate, createCertificate, shortFingerprint } from "./security/certificate.ts";
export { createToken, type JoinToken, parseToken, pinned, TokenError } from "./security/token.ts";
export { type ChildCounts, type ChildStatus, Supervisor } from "./supervisor.ts";
export { type Faults, faulty } from "./transports/faulty.ts";
export { MemoryNetwork, memory } from "./transports/memory.ts";
export { type Shape, shaped } from "./transports/shaped.ts";
export { type TcpOptions, tcp } from "./transports/tcp.ts";
export type { Listener, Pipe, PipeHandlers, Transport } from "./transports/transport.ts";
export { type WebSocketOptions, ws, wss } from "./transports/websocket/websocket.ts";
export { relay } from "./transports/relay/relay.ts";
export { type WebRtcOptions, webrtc } from "./transports/webrtc/webrtc.ts";
export type { NodeStatus } from "./node_status.ts";
export type { Carrier, SignalReceiver } from "./transports/carrier.ts";
