import { notifyManager, useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useCallback, useEffect, useState, useSyncExternalStore } from "react";
import { Refusal } from "../api/client";
import { keepAsking, lastAnswerAt, useReach } from "../api/reach";
import { type Session, signOut, useMay } from "../api/session";
import { clock } from "../format";
import { Button } from "../parts/Button";
import { Icon } from "../parts/Icon";
import { Failure } from "../parts/Notice";
import { Help } from "./Help";
import { Palette } from "./Palette";
import { PAGES } from "./pages";
import css from "./Shell.module.css";
import { useShortcuts } from "./shortcuts";
import { ThemeSwitch } from "./ThemeSwitch";

/** The frame of every page: navigation, account, banner, and the dialogs of the shortcuts. */
export function Shell({ session }: { session: Session }) {
  const [dialog, setDialog] = useState<"help" | "palette" | null>(null);
  const [menuOpen, setMenuOpen] = useState(false);
  const { pathname } = useLocation();
  useShortcuts(setDialog);
  // biome-ignore lint/correctness/useExhaustiveDependencies: navigation closes the menu
  useEffect(() => setMenuOpen(false), [pathname]);
  return (
    <div className={css.shell}>
      <a className={css.skip} href="#main">
        Skip to content
      </a>
      <header className={css.side}>
        <Link to="/jobs" className={css.brand}>
          <img src="/icon.svg" alt="" width="24" height="24" />
          Trainyard
        </Link>
        <Button
          look="icon"
          className={css.menu}
          aria-label="Menu"
          aria-expanded={menuOpen}
          onClick={() => setMenuOpen(!menuOpen)}
        >
          <Icon name="menu" />
        </Button>
        <div className={css.rest} data-open={menuOpen}>
          <Button className={css.search} onClick={() => setDialog("palette")}>
            <Icon name="search" /> Go to … <kbd>Ctrl K</kbd>
          </Button>
          <nav aria-label="Pages" className={css.links}>
            {PAGES.map((page) => (
              <Link key={page.to} to={page.to} activeOptions={{ includeSearch: false }}>
                {page.title}
              </Link>
            ))}
          </nav>
          <div className={css.foot}>
            <Who session={session} />
            <div className={css.tools}>
              <ThemeSwitch />
              <Button
                look="icon"
                aria-label="Help and shortcuts"
                title="Help and shortcuts (?)"
                onClick={() => setDialog("help")}
              >
                <Icon name="help" />
              </Button>
            </div>
          </div>
        </div>
      </header>
      <main id="main" className={css.main} tabIndex={-1}>
        <Offline />
        <div className={css.page}>
          <Outlet />
        </div>
      </main>
      {dialog === "help" && <Help onClose={() => setDialog(null)} />}
      {dialog === "palette" && <Palette onClose={() => setDialog(null)} onHelp={() => setDialog("help")} />}
    </div>
  );
}

function Who({ session }: { session: Session }) {
  const { mutate, error } = useMutation({
    mutationFn: signOut,
    onSuccess: () => location.assign("/"), // loads a document with empty caches
  });
  return (
    <div className={css.who}>
      <span>
        Project <b>{session.project?.name}</b>
      </span>
      <span className="muted">
        {session.key?.name} <code>{session.key?.prefix}…</code>
      </span>
      {!useMay("write") && <span className="muted">read-only key</span>}
      <Button look="plain" className={css.leave} onClick={() => mutate()}>
        Sign out
      </Button>
      {error && <Failure error={error} manual />}
    </div>
  );
}

/** A banner over data that may be old: the service is unreachable or failing. */
function Offline() {
  const answers = useReach();
  const queries = useQueryClient();
  const failure = useFailure();
  useEffect(keepAsking, []);
  useEffect(() => {
    if (!answers) return () => void queries.invalidateQueries({}, { cancelRefetch: false }); // back again: everything is read anew
  }, [answers, queries]);
  if (answers && !failure) return null;
  return (
    <div className={css.banner} role="status">
      <Icon name="warn" />
      {answers
        ? `The service reports: ${failure?.message.replace(/\.$/, "")}. This page may be out of date`
        : `The service does not respond. This page shows data from ${clock(lastAnswerAt() / 1000)}`}
      {!answers || failure?.isTemporary ? "; it updates by itself when the service is back." : "."}
    </div>
  );
}

/** The reason for which the service delays a request that is retried, or refuses to refresh data that is shown. */
function useFailure(): Refusal | undefined {
  const cache = useQueryClient().getQueryCache();
  return useSyncExternalStore(
    useCallback((listener) => cache.subscribe(notifyManager.batchCalls(listener)), [cache]),
    () =>
      cache
        .findAll({ type: "active" })
        .map(({ state }) =>
          state.fetchStatus === "fetching" ? state.fetchFailureReason : state.data !== undefined && state.error,
        )
        .find((reason) => reason instanceof Refusal),
  );
}
