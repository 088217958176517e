import { Dialog } from "../parts/Dialog";
import css from "./Help.module.css";
import { SHORTCUTS, setShortcuts, useShortcutsOn } from "./shortcuts";

export function Help({ onClose }: { onClose: () => void }) {
  const areOn = useShortcutsOn();
  return (
    <Dialog title="Help" onClose={onClose}>
      <dl className={css.keys}>
        {SHORTCUTS.map(([keys, what]) => (
          <Shortcut key={keys} keys={keys} what={what} />
        ))}
      </dl>
      <p className={css.switch}>
        <label>
          <input type="checkbox" checked={areOn} onChange={({ target }) => setShortcuts(target.checked)} /> Enable
          shortcuts of a single key: letters and ?
        </label>
      </p>
      <p>
        For programs, see <a href="/docs">the routes of the API</a>; for a terminal, <code>trainyard --help</code>.
      </p>
    </Dialog>
  );
}

function Shortcut({ keys, what }: { keys: string; what: string }) {
  return (
    <>
      <dt>
        {keys.split(" ").map((key) => (
          <kbd key={key}>{key}</kbd>
        ))}
      </dt>
      <dd>{what}</dd>
    </>
  );
}
