package graph

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"

	"skep/generator/stack"
)

// Sizes of the drawing, in pixels.
const (
	margin    = 24
	gap       = 16  // between boxes of a column
	gutter    = 170 // between columns, where the edges run
	rowHeight = 20
	head      = 24 // of a stack's box
	nodeH     = 40
	charW     = 7 // of 12 px text, on the wide side
)

const svgStyle = `<style>
text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #1c1917; }
.title { font-weight: 600; } .dim { fill: #78716c; }
.box { fill: #fafaf9; stroke: #a8a29e; } .zone { fill: #fef3c7; stroke: #d97706; } .network { fill: #e0f2fe; stroke: #0284c7; }
.route { stroke: #d97706; } .link { stroke: #0284c7; } .route, .link { fill: none; stroke-opacity: .55; }
@media (prefers-color-scheme: dark) {
  svg { background: #1c1917; } text { fill: #f5f5f4; } .dim { fill: #a8a29e; }
  .box { fill: #292524; stroke: #78716c; } .zone { fill: #451a03; } .network { fill: #082f49; }
}
</style>
`

// node is a box of the first or last column.
type node struct {
	name, title, sub string
	y, weight        int
}

// SVG draws the graph in three columns: zones, stacks, shared networks.
func (g Graph) SVG() string {
	d := g.layout()
	var out strings.Builder
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Stacks, routes and shared networks\">\n",
		d.width, d.height, d.width, d.height)
	out.WriteString(svgStyle)
	for _, r := range g.Routes {
		curve(&out, "route", margin+d.zoneW, d.zoneY[r.Zone]+nodeH/2, d.stackX, d.serviceY[r.Service], r.Zone+" to "+r.Service.String()+": "+strings.Join(r.Hosts, ", "))
	}
	for _, l := range g.Links {
		curve(&out, "link", d.stackX+d.stackW, d.serviceY[l.Service], d.networkX, d.networkY[l.Network]+nodeH/2, l.Service.String()+" on "+l.Network)
	}
	for _, z := range d.zones {
		box(&out, "zone", margin, z, d.zoneW)
	}
	for i, s := range g.Stacks {
		y := d.stackY[i]
		fmt.Fprintf(&out, "<rect class=\"box\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", d.stackX, y, d.stackW, stackHeight(s))
		text(&out, "title", d.stackX+10, y+17, s.Name)
		text(&out, "dim", d.stackX+20+charW*len(s.Name)+charW, y+17, s.Tier)
		for _, service := range s.Services {
			ref := stack.ServiceRef{Stack: stack.Name(s.Name), Service: stack.ServiceName(service)}
			text(&out, "", d.stackX+20, d.serviceY[ref]+4, service)
			if hosts := g.hosts(ref); hosts != "" {
				text(&out, "dim", d.stackX+20+charW*(len(service)+2), d.serviceY[ref]+4, hosts)
			}
		}
	}
	for _, n := range d.networks {
		box(&out, "network", d.networkX, n, d.networkW)
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// drawing is where everything stands.
type drawing struct {
	width, height         int
	zoneW, stackX, stackW int
	networkX, networkW    int
	zones, networks       []node
	stackY                []int
	serviceY              map[stack.ServiceRef]int // the middle of its row
	zoneY, networkY       map[string]int
}

func (g Graph) layout() drawing {
	d := drawing{serviceY: map[stack.ServiceRef]int{}}
	y := margin
	for _, s := range g.Stacks {
		d.stackY = append(d.stackY, y)
		d.stackW = max(d.stackW, charW*(len(s.Name)+len(s.Tier)+3)+30)
		for i, service := range s.Services {
			ref := stack.ServiceRef{Stack: stack.Name(s.Name), Service: stack.ServiceName(service)}
			d.serviceY[ref] = y + head + rowHeight*i + rowHeight/2
			d.stackW = max(d.stackW, charW*(len(service)+len(g.hosts(ref))+2)+40)
		}
		y += stackHeight(s) + gap
	}
	for _, z := range g.Zones {
		n := node{name: z.Name, title: z.Name, sub: z.Domain}
		count := 0
		for _, r := range g.Routes {
			if r.Zone == z.Name {
				n.weight, count = n.weight+d.serviceY[r.Service], count+1
			}
		}
		n.weight /= max(1, count)
		d.zones = append(d.zones, n)
	}
	for _, net := range g.Networks {
		n := node{name: net.Name, title: net.Name, sub: strings.TrimPrefix(strings.TrimPrefix(net.label("\n"), net.Name), "\n")}
		count := 0
		for _, l := range g.Links {
			if l.Network == net.Name {
				n.weight, count = n.weight+d.serviceY[l.Service], count+1
			}
		}
		n.weight /= max(1, count)
		d.networks = append(d.networks, n)
	}
	bottomZones, bottomNetworks := place(d.zones), place(d.networks)
	d.zoneY, d.networkY = positions(d.zones), positions(d.networks)
	d.zoneW, d.networkW = widest(d.zones), widest(d.networks)
	d.stackX = margin
	if len(d.zones) > 0 {
		d.stackX += d.zoneW + gutter
	}
	d.networkX = d.stackX + d.stackW + gutter
	d.width = d.stackX + d.stackW + margin
	if len(d.networks) > 0 {
		d.width = d.networkX + d.networkW + margin
	}
	d.height = max(y, bottomZones, bottomNetworks) - gap + margin
	return d
}

// place puts nodes beside the middle of what they connect to, without overlap.
func place(nodes []node) (bottom int) {
	slices.SortStableFunc(nodes, func(a, b node) int { return cmp.Compare(a.weight, b.weight) })
	bottom = margin
	for i := range nodes {
		nodes[i].y = max(bottom, nodes[i].weight-nodeH/2)
		bottom = nodes[i].y + nodeH + gap
	}
	return bottom
}

func positions(nodes []node) map[string]int {
	out := map[string]int{}
	for _, n := range nodes {
		out[n.name] = n.y
	}
	return out
}

func widest(nodes []node) int {
	w := 0
	for _, n := range nodes {
		w = max(w, charW*max(len(n.title), len(n.sub))+24)
	}
	return w
}

func stackHeight(s Stack) int { return head + rowHeight*len(s.Services) + 8 }

func (g Graph) hosts(ref stack.ServiceRef) string {
	var out []string
	for _, r := range g.Routes {
		if r.Service == ref {
			out = append(out, r.Hosts...)
		}
	}
	if len(out) > 2 {
		out = append(out[:2], fmt.Sprintf("and %d more", len(out)-2))
	}
	return strings.Join(out, ", ")
}

func curve(out *strings.Builder, class string, x1, y1, x2, y2 int, title string) {
	mid := (x1 + x2) / 2
	fmt.Fprintf(out, "<path class=\"%s\" d=\"M%d %d C%d %d %d %d %d %d\"><title>%s</title></path>\n", class, x1, y1, mid, y1, mid, y2, x2, y2, html.EscapeString(title))
}

func box(out *strings.Builder, class string, x int, n node, width int) {
	fmt.Fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", class, x, n.y, width, nodeH)
	if n.sub == "" {
		text(out, "title", x+12, n.y+24, n.title)
		return
	}
	text(out, "title", x+12, n.y+17, n.title)
	text(out, "dim", x+12, n.y+32, n.sub)
}

func text(out *strings.Builder, class string, x, y int, s string) {
	if class != "" {
		class = " class=\"" + class + "\""
	}
	fmt.Fprintf(out, "<text%s x=\"%d\" y=\"%d\">%s</text>\n", class, x, y, html.EscapeString(s))
}
