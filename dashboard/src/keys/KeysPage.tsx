import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type Key, keysQuery, revokeKey } from "../api/keys";
import { sessionQuery, useMay } from "../api/session";
import { day, moment } from "../format";
import { Ago } from "../parts/Ago";
import { Button } from "../parts/Button";
import { Dialog } from "../parts/Dialog";
import { Head } from "../parts/Head";
import { Icon } from "../parts/Icon";
import { List } from "../parts/List";
import { Failure, Notice } from "../parts/Notice";
import css from "./KeysPage.module.css";
import { NewKeyDialog } from "./NewKeyDialog";

export function KeysPage() {
  return useMay("admin") ? (
    <Keys />
  ) : (
    <>
      <Head title="API keys" />
      <Notice>Managing API keys requires a key with the scope admin.</Notice>
    </>
  );
}

function Keys() {
  const { data, error } = useQuery(keysQuery);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key | null>(null);
  return (
    <>
      <Head title="API keys">
        <Button look="primary" onClick={() => setMaking(true)}>
          <Icon name="plus" /> New key
        </Button>
      </Head>
      {error && !data && <Failure error={error} />}
      {data && (
        <List label="API keys" columns={["Name", "Scope", "Prefix", "Created", "Last used", "Expires", ""]}>
          {data.data.map((key) => (
            <KeyRow key={key.id} shown={key} onRevoke={() => setRevoking(key)} />
          ))}
        </List>
      )}
      {data?.has_more && <p className="muted">Only the newest 100 keys are listed; GET /v1/keys lists all.</p>}
      {making && <NewKeyDialog onClose={() => setMaking(false)} />}
      {revoking && <RevokeDialog shown={revoking} onClose={() => setRevoking(null)} />}
    </>
  );
}

function KeyRow({ shown, onRevoke }: { shown: Key; onRevoke: () => void }) {
  const { data: session } = useQuery(sessionQuery);
  const may = useMay(shown.scope);
  const { expires_at: end, revoked_at: revoked } = shown;
  return (
    <tr>
      <td className={css.name}>
        <b>{shown.name}</b>
      </td>
      <td>{shown.scope}</td>
      <td>
        <code>{shown.prefix}…</code>
      </td>
      <td>
        <Ago at={shown.created_at} />
      </td>
      <td>{shown.last_used_at ? <Ago at={shown.last_used_at} /> : <span className="muted">never</span>}</td>
      <td>
        {revoked ? (
          <>
            revoked <Ago at={revoked} />
          </>
        ) : end ? (
          <time title={moment(end)}>{day(end)}</time>
        ) : (
          "never"
        )}
      </td>
      <td>
        {shown.id === session?.key?.id ? (
          <span className="muted">in use here</span>
        ) : (
          !revoked &&
          may && (
            <Button onClick={onRevoke}>
              Revoke<span className="visually-hidden"> {shown.name}</span>
            </Button>
          )
        )}
      </td>
    </tr>
  );
}

function RevokeDialog({ shown, onClose }: { shown: Key; onClose: () => void }) {
  const queries = useQueryClient();
  const { mutate, error, isPending } = useMutation({
    mutationFn: () => revokeKey(shown.id),
    onSuccess: () => {
      void queries.invalidateQueries(keysQuery);
      onClose();
    },
  });
  return (
    <Dialog title="Revoke this key?" onClose={onClose}>
      <div className={css.form}>
        <p className={css.name}>
          Requests with <b>{shown.name}</b> (<code>{shown.prefix}…</code>) will be rejected. A revoked key cannot be
          restored.
        </p>
        {error && <Failure error={error} manual />}
        <div className={css.row}>
          <Button onClick={onClose}>Keep key</Button>
          <Button look="primary" disabled={isPending} onClick={() => mutate()}>
            Revoke key
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
