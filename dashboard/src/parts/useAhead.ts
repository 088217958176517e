import { startTransition, useMemo, useRef, useState } from "react";

/**
 * The search parameters of a page, with changes applied at once, as text fields require. `send` starts the navigation that
 * brings the changes into the address, and waits for it.
 */
export function useAhead<S extends object>(
  search: S,
  send: (changes: Partial<S>) => Promise<void>,
): [S, (changes: Partial<S>) => void] {
  const [ahead, setAhead] = useState<Partial<S>>({});
  const latest = useRef(ahead);
  const change = async (changes: Partial<S>) => {
    const all = { ...latest.current, ...changes };
    latest.current = all;
    setAhead(all);
    await send(all);
    if (latest.current !== all) return; // a later change is on its way
    latest.current = {};
    // After the address, which changes in a transition too.
    startTransition(() => setAhead((now) => (now === all ? {} : now)));
  };
  return [useMemo(() => ({ ...search, ...ahead }), [search, ahead]), change];
}
