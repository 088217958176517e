import { Dialog } from "../parts/Dialog";
import css from "./Help.module.css";
import { SHORTCUTS } from "./shortcuts";

export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Help" onClose={onClose}>
      <dl className={css.keys}>
        {SHORTCUTS.map(([keys, what]) => (
          <Shortcut key={keys} keys={keys} what={what} />
        ))}
      </dl>
      <p>
        The same from programs: <a href="/docs">the API's routes</a>. From a terminal: <code>trainyard --help</code>.
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
