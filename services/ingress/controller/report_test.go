package controller

import (
	"maps"
	"testing"

	"skep/services/ingress/label"
)

func TestRefusalsAreCounted(t *testing.T) {
	r := newReporter()
	one := label.Refusal{Source: "a_web", Stack: "a", Rule: label.RuleClaim}
	other := label.Refusal{Source: "b_web", Stack: "b", Rule: label.RuleListen}
	for i, turn := range []struct {
		refusals []label.Refusal
		want     map[string]float64 // by service
	}{
		{[]label.Refusal{one, one}, map[string]float64{"a_web": 2}},
		{[]label.Refusal{one, other}, map[string]float64{"a_web": 1, "b_web": 1}},
		{[]label.Refusal{other}, map[string]float64{"b_web": 1}},
		{nil, map[string]float64{}},
		{[]label.Refusal{one}, map[string]float64{"a_web": 1}},
	} {
		r.countRefusals(turn.refusals)
		families, err := r.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			if f.GetName() != "skep_ingress_refused" {
				continue
			}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "service" {
						got[l.GetValue()] = m.GetGauge().GetValue()
					}
				}
			}
		}
		if !maps.Equal(got, turn.want) {
			t.Errorf("turn %d: %v, want %v", i, got, turn.want)
		}
	}
}
