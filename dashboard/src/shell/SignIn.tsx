import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useRef } from "react";
import { sessionQuery, signIn } from "../api/session";
import { Button, inputClass } from "../parts/Button";
import { Command } from "../parts/Command";
import { Failure } from "../parts/Notice";
import { useTitle } from "../parts/title";
import css from "./SignIn.module.css";

/** `given` stands in the field already; nobody is signed in by a link alone, which may be another's. */
export function SignIn({ given }: { given: string | undefined }) {
  useTitle("Sign in");
  const queries = useQueryClient();
  const field = useRef<HTMLInputElement>(null);
  const { mutate, error, isPending } = useMutation({
    mutationFn: signIn,
    onSuccess: (session) => queries.setQueryData(sessionQuery.queryKey, session),
    onError: () => field.current?.focus(),
  });

  function submit(event: FormEvent) {
    event.preventDefault();
    mutate(field.current?.value ?? "");
  }

  return (
    <main className={css.page}>
      <form className={css.card} onSubmit={submit}>
        <h1 className={css.brand}>
          <img src="/icon.svg" alt="" width="32" height="32" />
          Trainyard
        </h1>
        <div className={css.field}>
          <label htmlFor="key">API key</label>
          <input
            id="key"
            ref={field}
            className={inputClass}
            type="password"
            defaultValue={given}
            autoComplete="current-password"
            placeholder="ty-…"
            required
            aria-invalid={error !== null}
            // biome-ignore lint/a11y/noAutofocus: it is the one thing to do here
            autoFocus
          />
        </div>
        {error && <Failure error={error} asked />}
        <Button look="primary" type="submit" disabled={isPending}>
          Sign in
        </Button>
        <p className="muted">On the machine that the service runs on, this shows your key:</p>
        <Command text="cat ~/.config/trainyard/credentials" />
      </form>
    </main>
  );
}
