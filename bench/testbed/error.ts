/** What goes wrong with a testbed; the message is one line that says what is missing or happened, and the remedy. */
export class TestbedError extends Error {
  readonly code: string = "TESTBED";
  override readonly name: string = "TestbedError";
}

/** A device was killed because it took more memory than it has. */
export class DeviceMemoryError extends TestbedError {
  override readonly code = "DEVICE_MEMORY";
  override readonly name = "DeviceMemoryError";
}
