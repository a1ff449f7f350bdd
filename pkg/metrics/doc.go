// Package metrics is /metrics: the names, units and questions of what Prometheus may ask a running liverec, and the text
// in which it is answered.
//
// It owns the names. It never counts and never asks the ledger: it is handed a status and Numbers, and writes.
package metrics
