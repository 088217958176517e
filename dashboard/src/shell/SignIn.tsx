import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useRef } from "react";
import { sessionQuery, signIn } from "../api/session";
import { Button, inputClass } from "../parts/Button";
import { Command } from "../parts/Command";
import { Failure } from "../parts/Notice";
import { useTitle } from "../parts/title";
import css from "./SignIn.module.css";

/** The sign-in form. `given` is filled in; a link alone signs nobody in, since it may be someone else's. */
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
            // biome-ignore lint/a11y/noAutofocus: the only field of the page
            autoFocus
          />
        </div>
        {error && <Failure error={error} manual />}
        <Button look="primary" type="submit" disabled={isPending}>
          Sign in
        </Button>
        <p className="muted">This command shows your key on the machine that runs the service:</p>
        <Command text="cat ~/.config/trainyard/credentials" />
      </form>
    </main>
  );
}
