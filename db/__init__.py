"""The database and the blob store, and what the API and the workers share.

- Connections: session (sessions and transactions), models (one table a file), migrate, settings, errors, health, clock,
  ids, paging, fence.
- The life of a job: state (the legal transitions), jobs, orders, queue, placement, leases, gangs, preemption, attempts,
  outbox, workers.
- What jobs report: records (events and metrics), feed, curves, curve_cache, stretches.
- What jobs make: artifacts, lineage, registry (aliases), fine_tuned_names, permissions, archives.
- Data and bytes: files, uploads, blobs (the local store), bucket (the S3 store), references, installation, backup,
  copies, verify.
- Tenants: projects, keys, scopes, audit, budgets, spend, plans, idempotency.
- Monitoring: service_stats.
- OpenAI's evals API: evals. Jobs of kind `eval` are jobs like any other.
- Webhooks: webhooks (deliveries), receivers (which addresses may be reached), webhook_secrets.
- Shared by all processes: logs, log_context, traces, desk_socket.

Modules that need no database, such as logs, traces, receivers and webhook_secrets, are here because this is the only
package that both `api` and `workers` may import, and that imports nothing of theirs.
"""
