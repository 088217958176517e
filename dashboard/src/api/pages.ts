interface Page<T, Cursor> {
  data: T[];
  has_more?: boolean;
  last_id?: Cursor | null;
}

/** What a listing has, page after page, until it ends or what has come is enough. */
export async function collect<T, Cursor>(
  ask: (after: Cursor | undefined) => Promise<Page<T, Cursor>>,
  isEnough: (come: readonly T[]) => boolean = () => false,
): Promise<T[]> {
  const come: T[] = [];
  let page: Page<T, Cursor> | undefined;
  do {
    page = await ask(page?.last_id ?? undefined);
    come.push(...page.data);
  } while (page.has_more && !isEnough(come));
  return come;
}
