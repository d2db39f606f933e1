package authority

import (
	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of a server.
type Metrics struct {
	queries   map[string][]prometheus.Counter // by protocol and code
	invalids  prometheus.Counter
	transfers *prometheus.CounterVec
	notifies  *prometheus.CounterVec
	serial    *prometheus.GaugeVec
	records   *prometheus.GaugeVec
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skep_dns_queries_total", Help: "Questions answered, by protocol and response code."}, []string{"proto", "rcode"})
	m := &Metrics{
		queries:   map[string][]prometheus.Counter{},
		invalids:  prometheus.NewCounter(prometheus.CounterOpts{Name: "skep_dns_invalid_messages_total", Help: "Messages that are no DNS."}),
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skep_dns_transfers_total", Help: "Zones handed out, by type."}, []string{"type"}),
		notifies:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skep_dns_notifies_total", Help: "Notifications of secondaries, by result."}, []string{"secondary", "result"}),
		serial:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "skep_dns_zone_serial", Help: "Serial of the zone."}, []string{"zone"}),
		records:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "skep_dns_zone_records", Help: "Records of the zone."}, []string{"zone"}),
	}
	// Looked up once: this is on the way of every answer.
	for _, proto := range []string{"udp", "tcp"} {
		for code := range mdns.RcodeBadVers + 1 {
			m.queries[proto] = append(m.queries[proto], queries.WithLabelValues(proto, rcodeName(code)))
		}
	}
	r.MustRegister(queries, m.invalids, m.transfers, m.notifies, m.serial, m.records)
	return m
}

func rcodeName(code int) string {
	if name, ok := mdns.RcodeToString[code]; ok {
		return name
	}
	return "other"
}

func (m *Metrics) query(proto string, rcode int) {
	if list := m.queries[proto]; rcode < len(list) {
		list[rcode].Inc()
	}
}

func (m *Metrics) invalid() { m.invalids.Inc() }

func (m *Metrics) transfer(kind string) { m.transfers.WithLabelValues(kind).Inc() }

func (m *Metrics) notified(secondary string, ok bool) {
	result := "failure"
	if ok {
		result = "success"
	}
	m.notifies.WithLabelValues(secondary, result).Inc()
}

func (m *Metrics) zone(z *Zone) {
	m.serial.WithLabelValues(z.origin).Set(float64(z.Serial()))
	m.records.WithLabelValues(z.origin).Set(float64(z.Len()))
}
