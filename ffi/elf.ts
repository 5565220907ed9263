/**
 * What keeps Linux from loading a shared library, as far as its file tells. The system's loader says of a library for
 * another machine that there is no such file, and lets the process die of one that was cut short.
 * Format: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
 *
 * @module
 */

/** Deno's names of the machines that llmts is built for, by the header's. */
const MACHINES: ReadonlyMap<number, string> = new Map([[62, "x86_64"], [183, "aarch64"]]);

const MAGIC = 0x7f454c46; // \x7fELF
const HEADER_BYTES = 64;
const CLASS_64 = 2;

/** The fault of a library's file in words; undefined where it shows none, or can't be read: loading it says why. */
export function elfFault(path: string): string | undefined {
  const start = readStart(path);
  if (start === undefined) return undefined;
  const { size, header } = start;
  if (size < HEADER_BYTES || header.getUint32(0) !== MAGIC) {
    return `its ${size} bytes are no shared library of Linux`;
  }
  const machine = header.getUint16(0x12, true);
  const name = header.getUint8(4) === CLASS_64 ? MACHINES.get(machine) : undefined;
  if (name !== Deno.build.arch) {
    return `it is for ${
      name ?? `another machine (number ${machine} in ELF)`
    }, and this is ${Deno.build.arch}`;
  }
  const sections = Number(header.getBigUint64(0x28, true)); // their table, which linkers write last
  const end = sections + header.getUint16(0x3a, true) * header.getUint16(0x3c, true);
  return size < end ? `it was cut short, to ${size} bytes of ${end}` : undefined;
}

function readStart(path: string): { size: number; header: DataView } | undefined {
  try {
    using file = Deno.openSync(path);
    const header = new Uint8Array(HEADER_BYTES);
    file.readSync(header);
    return { size: file.statSync().size, header: new DataView(header.buffer) };
  } catch {
    return undefined;
  }
}
