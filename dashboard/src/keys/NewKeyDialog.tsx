import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { FormEvent } from "react";
import { keysQuery, makeKey, type NewKey } from "../api/keys";
import { Button, inputClass } from "../parts/Button";
import { Copy } from "../parts/Command";
import { Dialog } from "../parts/Dialog";
import { Failure, Notice } from "../parts/Notice";
import css from "./KeysPage.module.css";

const SCOPES: readonly (readonly [NewKey["scope"], string])[] = [
  ["read", "views and downloads jobs, files and models; changes nothing"],
  ["write", "also creates, changes and deletes them, and runs models"],
  ["admin", "also creates and revokes keys"],
];
const DAY_S = 86_400;
const ENDS = [
  ["", "never"],
  [7 * DAY_S, "after 7 days"],
  [90 * DAY_S, "after 90 days"],
  [365 * DAY_S, "after a year"],
] as const;

/** Creates a key and shows it once; a click beside the dialog does not close it. */
export function NewKeyDialog({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient();
  const { mutate, data, error, isPending } = useMutation({
    mutationFn: makeKey,
    onSuccess: () => void queries.invalidateQueries(keysQuery), // not awaited: the key is shown at once
    gcTime: 0, // the key is not cached
  });
  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    const ends = Number(given.get("ends"));
    const scope = given.get("scope") as NewKey["scope"];
    mutate({ name: String(given.get("name")).trim(), scope, expires_after_s: ends || null });
  }
  return (
    <Dialog title="New key" onClose={onClose} firm>
      {data ? (
        <div className={css.form}>
          <div role="status">
            <Notice tone="warn">Copy the key now. It is not stored and cannot be shown again.</Notice>
          </div>
          <div className={css.token}>
            <code>{data.token}</code>
            <Copy text={data.token} label="Copy the key" autoFocus />
          </div>
          <div className={css.row}>
            <Button look="primary" onClick={onClose}>
              Done
            </Button>
          </div>
        </div>
      ) : (
        <form className={css.form} onSubmit={submit}>
          <label>
            Name
            <input className={inputClass} name="name" required maxLength={100} placeholder="my notebook" />
          </label>
          <fieldset className={css.form}>
            <legend>Scope</legend>
            {SCOPES.map(([scope, about]) => (
              <label key={scope} className={css.scope}>
                <input type="radio" name="scope" value={scope} defaultChecked={scope === "read"} />
                <span>
                  <b>{scope}</b> {about}
                </span>
              </label>
            ))}
          </fieldset>
          <label>
            Expires{" "}
            <select className={inputClass} name="ends">
              {ENDS.map(([seconds, about]) => (
                <option key={about} value={seconds}>
                  {about}
                </option>
              ))}
            </select>
          </label>
          {error && <Failure error={error} manual />}
          <div className={css.row}>
            <Button look="primary" type="submit" disabled={isPending}>
              Create key
            </Button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
