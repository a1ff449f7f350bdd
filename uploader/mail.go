package uploader

import (
	"sync"

	"github.com/liverec/liverec/pkg/segment"
)

// mailbox keeps the newest doorbell of each segment for one lane. Putting never waits.
type mailbox struct {
	mu   sync.Mutex
	news map[segment.ID]segment.Progress

	bell chan struct{} // capacity 1; rung by put, never closed
}

func newMailbox() *mailbox {
	return &mailbox{news: map[segment.ID]segment.Progress{}, bell: make(chan struct{}, 1)}
}

func (m *mailbox) put(p segment.Progress) {
	m.mu.Lock()
	if old, ok := m.news[p.ID]; ok {
		p.Durable = max(p.Durable, old.Durable)
		p.Sealed = p.Sealed || old.Sealed
	}
	m.news[p.ID] = p
	m.mu.Unlock()
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

// take empties the box.
func (m *mailbox) take() map[segment.ID]segment.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.news) == 0 {
		return nil
	}
	news := m.news
	m.news = map[segment.ID]segment.Progress{}
	return news
}
