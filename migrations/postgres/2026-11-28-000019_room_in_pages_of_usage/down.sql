ALTER TABLE usage RESET (fillfactor);
