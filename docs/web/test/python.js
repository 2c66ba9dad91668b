import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/**
 * What reference.py writes to standard output.
 *
 * @param {string[]} args
 * @param {Uint8Array} [input] for standard input
 */
export function python(args, input) {
  const script = fileURLToPath(new URL("reference.py", import.meta.url));
  return execFileSync(process.env.PYTHON ?? "python3", [script, ...args], { input, maxBuffer: 2 ** 28 });
}
