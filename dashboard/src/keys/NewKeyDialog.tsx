import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { FormEvent } from "react";
import { keysQuery, makeKey, type NewKey } from "../api/keys";
import { Button, inputClass } from "../parts/Button";
import { Copy } from "../parts/Command";
import { Dialog } from "../parts/Dialog";
import { Failure, Notice } from "../parts/Notice";
import css from "./KeysPage.module.css";

const SCOPES: readonly (readonly [NewKey["scope"], string])[] = [
  ["read", "looks at jobs, files, models and downloads them; changes nothing"],
  ["write", "also makes, changes and deletes them, and has models answer"],
  ["admin", "also makes and revokes keys"],
];
const DAY_S = 86_400;
const ENDS = [
  ["", "when it is revoked"],
  [7 * DAY_S, "after a week"],
  [90 * DAY_S, "after 90 days"],
  [365 * DAY_S, "after a year"],
] as const;

/** A key is made, and shown this once; a press beside the dialog does not lose it. */
export function NewKeyDialog({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient();
  const { mutate, data, error, isPending } = useMutation({
    mutationFn: makeKey,
    onSuccess: () => queries.invalidateQueries(keysQuery),
    gcTime: 0, // the key is remembered nowhere
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
          <Notice tone="warn">Copy the key now. It is kept nowhere, and nobody can show it again.</Notice>
          <div className={css.token}>
            <code>{data.token}</code>
            <Copy text={data.token} label="Copy the key" />
          </div>
          <div className={css.row}>
            <Button look="primary" onClick={onClose}>
              I have it
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
            It ends{" "}
            <select className={inputClass} name="ends">
              {ENDS.map(([seconds, about]) => (
                <option key={about} value={seconds}>
                  {about}
                </option>
              ))}
            </select>
          </label>
          {error && <Failure error={error} asked />}
          <div className={css.row}>
            <Button look="primary" type="submit" disabled={isPending}>
              Make the key
            </Button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
