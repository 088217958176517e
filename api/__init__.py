"""The HTTP API: requests in, objects as JSON out.

One folder for each noun of the API, with `routes` (HTTP), `service` (what a request does, in transactions), and `schemas`
(what is read and shown): jobs, files, models, aliases, plans, preview, chat, stream, samples, fleet, kinds, keys, session,
spend, and openai (what OpenAI's clients need beyond files and models). A noun that needs one module has no folder.

app           puts it all together; deps is what routes are given
auth          who asks (keys and sessions), scopes what a route takes, rates how often a key may ask
protocol      HTTP itself; middleware wraps every answer; handlers turn exceptions into the envelope of errors
bodies        JSON bodies, validation the answer to a wrong one, answers objects and pages
jobs/submit   reads and resolves a spec; jobs/intake stores it, in the groups of group_commit
desk          questions to a running engine: previews, plans, chats
dashboard/    the built web page
bootstrap, projects, keys, openapi_file, settings    are also run as `python -m api....`
"""
