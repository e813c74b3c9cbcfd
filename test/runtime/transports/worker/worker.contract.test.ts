import { worker, WorkerNetwork } from "../../../../runtime/transports/worker/network.ts";
import { transportContract } from "../../../contract/transport.contract.ts";

const network = new WorkerNetwork();
transportContract({
  name: "worker",
  make: () => worker(network),
  anyAddress: "worker://",
  deadAddress: "worker://nobody",
});
