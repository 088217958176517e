import { type ReactNode, useEffect, useState } from "react";
import { askWhetherThere, useReach } from "../api/reach";
import { Button } from "../parts/Button";
import { Notice } from "../parts/Notice";
import { useTitle } from "../parts/title";
import { loadAnew, PageUnfetched } from "./lazyPage";

/** Shown instead of a page that failed. When its code could not be loaded, it reloads as soon as the service answers. */
export function Broken({ error }: { error: unknown }) {
  useTitle("Error");
  if (error instanceof PageUnfetched) return <Unfetched error={error} />;
  return (
    <Again>
      This page crashed: <code>{error instanceof Error ? error.message : String(error)}</code>
    </Again>
  );
}

function Unfetched({ error }: { error: PageUnfetched }) {
  const answers = useReach();
  const [isMissing, setIsMissing] = useState(false);
  useEffect(() => {
    if (!answers) return;
    let gone = false;
    // Checked first: if the service has just gone away, a reload would end at the browser's own error page.
    askWhetherThere().then((there) => {
      if (there && !gone && !loadAnew(error)) setIsMissing(true);
    });
    return () => {
      gone = true;
    };
  }, [answers, error]);
  if (isMissing) return <Again>This page's code could not be loaded, although the service answers.</Again>;
  return <Notice tone="bad">This page's code could not be loaded. It loads by itself when the service is back.</Notice>;
}

function Again({ children }: { children: ReactNode }) {
  return (
    <Notice tone="bad">
      <p>{children}</p>
      <Button onClick={() => location.reload()}>Reload</Button>
    </Notice>
  );
}
