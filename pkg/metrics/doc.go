// Package metrics is /metrics: the names, units and questions of what Prometheus may ask a running liverec, and the
// collector that answers with the numbers of the moment.
//
// It owns the names; the formats are client_golang's. It never counts and never asks the ledger: it is handed a status and
// Numbers at each scrape, and keeps none of them.
package metrics
