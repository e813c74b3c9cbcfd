/** The actor runtime: refs, supervision, monitors, nodes and transports. Useful with no neural network in sight. */

export {
  Actor,
  type ActorClass,
  type ActorContext,
  type SupervisedChild,
  type SuperviseOptions,
} from "./actor.ts";
export {
  CHILD_INTENSITY,
  type ChildOptions,
  type ChildSpec,
  child,
  type SupervisorSpec,
  TREE_CAP,
} from "./child_spec.ts";
export { type Clock, systemClock, type Timer, VirtualClock } from "./clock.ts";
export { DEAD_LETTER_CODES, type DeadLetter, type DeadLetterCode, type DeadLetters } from "./deadletters.ts";
export { DEFAULT_HEARTBEAT, type Heartbeat, heartbeatOf } from "./detector.ts";
export type { Introduction } from "./discovery/introductions.ts";
export {
  type Announced,
  announce,
  type FindOptions,
  type Found,
  findAnnounced,
  type LocalNetworkOptions,
} from "./discovery/mdns.ts";
export { DynamicSupervisor, type DynamicSupervisorSpec } from "./dynamic_supervisor.ts";
export { ActorFailure, LinkClosedByPeer, RuntimeError, type RuntimeErrorCode } from "./errors.ts";
export { type GroupEvent, Groups, type GroupsEnvelope, type GroupsPeer } from "./groups.ts";
export type { HostedClass, HostedClasses, Owner } from "./hosting.ts";
export type { Intensity } from "./intensity.ts";
export type { Joining, JoinOptions } from "./join.ts";
export { consoleLog, type Log, type LogEntry } from "./log.ts";
export type { PeerEvent } from "./membership.ts";
export { type Down, type DownReason, downText, type Monitor } from "./monitor.ts";
export { narrow } from "./narrow.ts";
export { NodeRuntime } from "./node.ts";
export type { NodeOptions, RemoteSpawnOptions, SpawnOptions } from "./node_options.ts";
export type { NodeStatus } from "./node_status.ts";
export type { PeerInfo } from "./peer.ts";
export { MemoryPool, type PoolCounts, type PoolOptions } from "./pool.ts";
export { type Random, seededRandom, systemRandom } from "./random.ts";
export type {
  ArgsOf,
  Ask,
  AskOptions,
  IsAny,
  MessageName,
  NoMessage,
  Ref,
  ResultOf,
  StopOptions,
  Tell,
} from "./ref.ts";
export { RemoteChild } from "./remote_child.ts";
export { type Certificate, createCertificate, shortFingerprint } from "./security/certificate.ts";
export { createToken, type JoinToken, parseToken, pinned, TokenError } from "./security/token.ts";
export { type ChildCounts, type ChildStatus, Supervisor } from "./supervisor.ts";
export { type Times, timesOf } from "./times.ts";
export type { Tombstone } from "./tombstones.ts";
export type { Carrier, SignalReceiver } from "./transports/carrier.ts";
export { type Faults, faulty } from "./transports/faulty.ts";
export { MemoryNetwork, memory } from "./transports/memory.ts";
export { relay } from "./transports/relay/relay.ts";
export { type Shape, shaped } from "./transports/shaped.ts";
export { type ShmOptions, shm, shmUnavailable } from "./transports/shm/shm.ts";
export { type TcpOptions, tcp } from "./transports/tcp.ts";
export type { Listener, Pipe, PipeHandlers, Transport } from "./transports/transport.ts";
export { type WebRtcOptions, webrtc } from "./transports/webrtc/webrtc.ts";
export { type WebSocketOptions, ws, wss } from "./transports/websocket/websocket.ts";
export { startWorkerNode, type WorkerNode, type WorkerNodeOptions } from "./transports/worker/host.ts";
export { type Door, WorkerNetwork, worker } from "./transports/worker/network.ts";
export { type InWorkerOptions, workerNode } from "./transports/worker/worker.ts";
