/** The prefixes of secrets, ours and those of other services, that a library may have put into a message. */
const SECRET = /\b(ty-|sk-|hf_|whsec_|ghp_|AKIA)[A-Za-z0-9_-]{12,}/g;

/** Returns the text with every secret reduced to its prefix. */
export function masked(text: string): string {
  return text.replace(
    SECRET,
    (found, prefix: string) => `${prefix}${"•".repeat(Math.min(8, found.length - prefix.length))}`,
  );
}
