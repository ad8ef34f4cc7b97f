-- Each flush rewrites the rows of busy subjects in the running hour. Where a page has room for the new row, its indexes stay
-- as they are; a full page sends each row to another one, and the table and both indexes grow with every flush.
-- It holds for pages from now on; nothing is rewritten, and a version that does not know it goes on as before.
ALTER TABLE usage SET (fillfactor = 70);
