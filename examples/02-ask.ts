// `ask` sends and waits; it always settles: with the answer, the method's own error, a timeout, or the actor's end.

import { Actor, NodeRuntime, type RuntimeError } from "../runtime/index.ts";

class Account extends Actor {
  #balance = 0;

  async deposit(amount: number): Promise<number> {
    this.#balance += amount;
    return this.#balance;
  }

  async withdraw(amount: number): Promise<number> {
    if (amount > this.#balance) throw new Error(`there are only ${this.#balance}`);
    this.#balance -= amount;
    return this.#balance;
  }

  async ponder(): Promise<never> {
    return new Promise(() => {}); // never
  }
}

const node = new NodeRuntime({ name: "desk" });
const account = await node.spawn(Account, []);

console.log(await account.ask.deposit(40)); // 40
await account.ask.withdraw(100).catch((error: Error) => console.log(error.message)); // there are only 40
console.log(await account.ask.withdraw(10)); // 30: the asker got the error, the actor lives on

const impatient = account.with({ timeoutMs: 20 });
await impatient.ask.ponder().catch((error: RuntimeError) => console.log(error.code)); // ASK_TIMEOUT

const waiting = account.ask.deposit(1).catch((error: RuntimeError) => console.log(error.code)); // ACTOR_DOWN
await node.kill(account);
await waiting;

await node.close();
