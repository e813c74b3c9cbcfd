/** A place for a lease, in memory. */

import { NatsError, type Register } from "../../../runtime/platform/nats.ts";

/** What a NATS server does with a value, and lines to it that can be cut. */
export class LeaseServer {
  value = "";
  revision = 0;

  line(): Register & { cut: boolean; answers: boolean } {
    const server = this;
    const away = () => new NatsError("nobody answers", true);
    return {
      cut: false,
      answers: true,
      async read() {
        if (this.cut) throw away();
        return { value: server.value, revision: server.revision };
      },
      async write(value, revision) {
        if (this.cut) throw away();
        if (revision !== server.revision) return null;
        server.value = value;
        server.revision++;
        if (!this.answers) throw away();
        return server.revision;
      },
    };
  }
}
