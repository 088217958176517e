import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";
import { jobsQuery, nameOf } from "../api/jobs";
import { Dialog } from "../parts/Dialog";
import { chooseTheme } from "../theme";
import css from "./Palette.module.css";
import { PAGES } from "./pages";

interface Entry {
  id: string;
  title: string;
  about: string;
  run: () => void;
}

const MOST = 12;

/** Finds pages, jobs and actions by a few letters of their names. */
export function Palette({ onClose, onHelp }: { onClose: () => void; onHelp: () => void }) {
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();
  const found = useEntries(onHelp)
    .filter((entry) => matches(`${entry.title} ${entry.about}`, text))
    .slice(0, MOST);
  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);

  function choose(entry: Entry | undefined) {
    if (!entry) return;
    onClose();
    entry.run();
  }
  function press(event: KeyboardEvent) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      event.preventDefault();
      setChosen((chosen + step + found.length) % found.length);
    }
    if (event.key === "Enter") choose(found[chosen]);
  }
  return (
    <Dialog title="Go to" onClose={onClose} bare>
      <input
        className={css.field}
        role="combobox"
        aria-label="Go to a page or a job"
        aria-expanded="true"
        aria-controls={id}
        aria-activedescendant={found[chosen] && `${id}-${chosen}`}
        placeholder="A page, a job, an action …"
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setChosen(0);
        }}
        onKeyDown={press}
      />
      {found.length === 0 && <p className={`${css.none} muted`}>No page, action or recent job matches.</p>}
      <div ref={list} id={id} className={css.list} role="listbox" aria-label="Results" tabIndex={-1}>
        {found.map((entry, index) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the field above handles the keys
          <div
            key={entry.id}
            id={`${id}-${index}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === chosen}
            onPointerMove={() => setChosen(index)}
            onClick={() => choose(entry)}
          >
            <span>{entry.title}</span>
            <span className="muted">{entry.about}</span>
          </div>
        ))}
      </div>
    </Dialog>
  );
}

function useEntries(onHelp: () => void): Entry[] {
  const navigate = useNavigate();
  const { data } = useQuery({ ...jobsQuery({}), refetchInterval: false });
  const pages = PAGES.map((page) => ({
    id: page.to,
    title: page.title,
    about: `page, g ${page.key}`,
    run: () => navigate({ to: page.to }),
  }));
  const jobs = (data?.data ?? []).map((job) => ({
    id: job.id,
    title: nameOf(job).slice(0, 80),
    about: `${job.kind}, ${job.status}, ${job.id}`,
    run: () => navigate({ to: "/jobs/$jobId", params: { jobId: job.id } }),
  }));
  const themes = (["light", "dark", "system"] as const).map((theme) => ({
    id: theme,
    title: `Theme: ${theme}`,
    about: "action",
    run: () => chooseTheme(theme),
  }));
  const create = { id: "new", title: "New job", about: "action, n", run: () => navigate({ to: "/jobs/new" }) };
  return [...pages, create, ...jobs, ...themes, { id: "help", title: "Help and shortcuts", about: "?", run: onHelp }];
}

/** Whether the text contains every word of the query. */
function matches(text: string, query: string): boolean {
  const lower = text.toLowerCase();
  return query
    .toLowerCase()
    .split(/\s+/)
    .every((word) => lower.includes(word));
}
