import { type ReactNode, useEffect, useState } from "react";
import { askWhetherThere, useReach } from "../api/reach";
import { Button } from "../parts/Button";
import { Notice } from "../parts/Notice";
import { useTitle } from "../parts/title";
import { loadAnew, PageUnfetched } from "./lazyPage";

/** Stands where a page should be. One whose code did not come is loaded anew as soon as the service answers. */
export function Broken({ error }: { error: unknown }) {
  useTitle("Not shown");
  if (error instanceof PageUnfetched) return <Unfetched error={error} />;
  return (
    <Again>
      This page ended by an error of its own: <code>{error instanceof Error ? error.message : String(error)}</code>
    </Again>
  );
}

function Unfetched({ error }: { error: PageUnfetched }) {
  const answers = useReach();
  const [inVain, setInVain] = useState(false);
  useEffect(() => {
    if (!answers) return;
    let gone = false;
    // It may have gone away unnoticed: a document that is asked for now would be the browser's own page of an error.
    askWhetherThere().then((there) => {
      if (there && !gone && !loadAnew(error)) setInVain(true);
    });
    return () => {
      gone = true;
    };
  }, [answers, error]);
  if (inVain) return <Again>The code of this page is not there, although the service answers.</Again>;
  return <Notice tone="bad">The code of this page did not come. It loads by itself when the service is back.</Notice>;
}

function Again({ children }: { children: ReactNode }) {
  return (
    <Notice tone="bad">
      <p>{children}</p>
      <Button onClick={() => location.reload()}>Load it again</Button>
    </Notice>
  );
}
