package page

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/status"
)

// lang is a language of the pages; its number is the column of the table.
type lang int

const (
	english lang = iota
	chinese
	langs // how many there are
)

// tag is what stands in <html lang>.
func (l lang) tag() string { return [...]string{"en", "zh-CN"}[l] }

// table has every text of the pages. A test reads the templates and the code and refuses a key that is missing, one that
// nobody uses, and a line without both languages.
var table = map[string][langs]string{
	"app.skip":      {"Skip to the content", "跳到正文"},
	"app.nav":       {"Pages", "页面"},
	"app.overview":  {"Overview", "总览"},
	"app.history":   {"History", "历史"},
	"app.add":       {"Add a room", "添加房间"},
	"app.access":    {"Access", "访问"},
	"app.signout":   {"Sign out", "退出登录"},
	"app.otherlang": {"中文", "English"},
	"app.language":  {"Show the pages in Chinese", "用英文显示页面"},
	"app.theme":     {"Colours: %s. Change to %s", "配色：%s。切换为%s"},
	"theme.auto":    {"as the system", "跟随系统"},
	"theme.light":   {"light", "浅色"},
	"theme.dark":    {"dark", "深色"},
	"app.config":    {"The config file was not taken over, what was in force stays so.", "配置文件未被采用，之前的配置继续生效。"},
	"app.stale":     {"The connection to liverec is lost. What stands here may be old; it is tried again.", "与 liverec 的连接已断开，显示的内容可能已过时，正在重试。"},
	"app.notfound":  {"There is no such page", "没有这个页面"},
	"app.gone":      {"Nobody here knows what was asked for. It may have been removed.", "找不到所请求的内容，可能已被移除。"},
	"app.trouble":   {"That did not work", "操作未成功"},
	"app.silent":    {"liverec cannot say how things stand right now.", "liverec 目前无法报告状态。"},
	"app.back":      {"Back to the overview", "返回总览"},
	"app.cancel":    {"Cancel", "取消"},
	"app.search":    {"Find a room", "查找房间"},
	"app.find":      {"Find", "查找"},
	"app.clear":     {"Show all", "显示全部"},
	"app.pages":     {"More of the list", "列表分页"},
	"app.earlier":   {"Previous", "上一页"},
	"app.later":     {"Next", "下一页"},
	"app.range":     {"%d–%d of %d", "第 %d–%d 项，共 %d 项"},

	"truth.safe":      {"Everything is safe", "全部安全"},
	"truth.unsafe":    {"%s on this disk only", "%s 仅在本机磁盘上"},
	"truth.oldest":    {"the oldest for %s", "最早的已有 %s"},
	"truth.recording": {"Being sent while it is recorded.", "边录边传中。"},
	"truth.every":     {"Every part has been proven on every required target.", "每个分段都已在所有必需目标上验证。"},
	"truth.counts":    {"%d live, %d waiting", "%d 个直播中，%d 个等待中"},
	"truth.others":    {"%d paused or in trouble", "%d 个已暂停或异常"},
	"truth.flow":      {"%s in, %s out", "接收 %s，发送 %s"},
	"truth.stopped":   {"No liverec is running on this data folder", "没有 liverec 进程在使用此数据目录"},

	"need.title":       {"Needs you", "需要处理"},
	"need.weather":     {"Trouble that should pass", "应会自行恢复的问题"},
	"need.more":        {"and %d more like it", "另有 %d 个同类问题"},
	"need.refused":     {"%s refuses", "%s 拒绝接收"},
	"need.refusedcure": {"Put right what it names. Parts wait on the disk and are sent then; nothing is lost.", "请按提示修正。分段在磁盘上等待，修正后会自动发送，不会丢失。"},
	"need.away":        {"%s cannot be reached", "无法连接 %s"},
	"need.awaycure":    {"It is tried again and again; the media waits on the disk. Look at the network or the server if it lasts.", "会不断重试，媒体在磁盘上等待。若持续如此，请检查网络或服务器。"},
	"need.blocked":     {"%s is blocked", "%s 被拦截"},
	"need.blockedcure": {"The site does not answer this address or this account. A fresh cookie or a longer wait helps.", "该站点拒绝了此地址或账号。请更新 Cookie，或等待更久。"},
	"need.disklow":     {"The disk is running short: %s free", "磁盘空间不足：剩余 %s"},
	"need.diskcure":    {"Safe parts are freed at once and uploads go before all else. Give it space, or a faster line.", "已安全的分段会立即释放，上传优先。请增加空间或带宽。"},
	"need.diskstop":    {"The disk is full: rooms are paused, %s free", "磁盘已满：房间被暂停，剩余 %s"},
	"need.stopcure":    {"Free some space. Rooms go on by themselves; unsafe media is never deleted.", "请释放空间。房间会自动恢复，未安全的媒体绝不会被删除。"},

	"rooms.live":     {"Live", "直播中"},
	"rooms.nolive":   {"No room is live right now. Recording begins by itself.", "目前没有房间在直播。开播后会自动录制。"},
	"rooms.rest":     {"Not live", "未直播"},
	"rooms.empty":    {"There is no room yet.", "还没有房间。"},
	"rooms.first":    {"Add the first one", "添加第一个"},
	"rooms.nothing":  {"No room is called like that.", "没有匹配的房间。"},
	"room.for":       {"for %s", "已 %s"},
	"room.preview":   {"Preview of %s", "预览 %s"},
	"room.spark":     {"Bit rate of the last five minutes", "最近五分钟的码率"},
	"room.bitrate":   {"Bit rate", "码率"},
	"room.open":      {"Part that is open", "当前分段"},
	"room.nopart":    {"No part is open.", "没有打开的分段。"},
	"room.away":      {"Of it already away", "已传出"},
	"room.awayon":    {"%s of %s is on %s", "%s / %s 已在 %s"},
	"room.gaps0":     {"no gaps", "无缺口"},
	"room.gaps1":     {"1 gap, %s", "1 个缺口，%s"},
	"room.gaps":      {"%d gaps, %s", "%d 个缺口，%s"},
	"room.quality":   {"Quality", "画质"},
	"room.unsafe":    {"On this disk only", "仅在本机"},
	"room.site":      {"Site", "站点"},
	"room.source":    {"Kept in", "来源"},
	"source.file":    {"the config file", "配置文件"},
	"source.page":    {"this page", "本页面"},
	"state.waiting":  {"waiting", "等待中"},
	"state.live":     {"live", "直播中"},
	"state.paused":   {"paused", "已暂停"},
	"state.blocked":  {"blocked", "被拦截"},
	"state.ended":    {"stopped", "已停止"},
	"state.unreach":  {"unreachable", "无法访问"},
	"state.ok":       {"in order", "正常"},
	"state.refused":  {"refuses", "拒绝"},
	"state.throttle": {"asks for patience", "限流中"},
	"state.away":     {"unreachable", "无法连接"},

	"preview.title":  {"Preview", "预览"},
	"preview.play":   {"Play", "播放"},
	"preview.help":   {"Plays the part that is being recorded, from its newest key frame. It reads the disk of liverec and asks nothing of the site.", "从最新关键帧播放正在录制的分段，只读取 liverec 的磁盘，不会访问站点。"},
	"preview.plain":  {"Without scripts: %s, for a player of yours", "无脚本时：%s，可用播放器打开"},
	"preview.stream": {"the stream", "该流"},
	"preview.failed": {"This browser cannot play it. The recording is not concerned.", "此浏览器无法播放，录制不受影响。"},
	"preview.none":   {"Nothing is being recorded.", "当前没有录制。"},
	"preview.close":  {"Close", "关闭"},

	"do.pause":     {"Pause", "暂停"},
	"do.continue":  {"Continue", "继续"},
	"do.split":     {"Begin a new part", "切分"},
	"do.stop":      {"Stop", "停止"},
	"do.remove":    {"Remove the room", "移除房间"},
	"sure.stop":    {"Stop %s?", "停止 %s？"},
	"sure.stopwhy": {"The open part is closed and sent. The room is not watched any more until it is continued.", "当前分段会被关闭并上传。在继续之前不再监视该房间。"},
	"sure.remove":  {"Remove %s?", "移除 %s？"},
	"sure.rmwhy":   {"Its recording ends and the room is forgotten. What it recorded stays, and is sent to the end.", "录制会结束，房间会被移除。已录制的内容保留，并会继续上传完毕。"},
	"said.pause":   {"%s is being paused.", "正在暂停 %s。"},
	"said.cont":    {"%s goes on.", "%s 继续。"},
	"said.split":   {"A new part of %s begins at the next key frame.", "%s 将在下一个关键帧切分。"},
	"said.stop":    {"%s is being stopped.", "正在停止 %s。"},
	"said.added":   {"%s is watched from now on.", "已开始监视 %s。"},
	"said.removed": {"%s was removed. What it recorded stays.", "%s 已移除，录制内容保留。"},
	"said.changed": {"The settings were taken. In force: %s.", "设置已采用。生效：%s。"},
	"said.same":    {"Nothing was changed.", "没有更改。"},
	"said.now":     {"now", "立即"},
	"said.part":    {"from part %s on", "从第 %s 分段起"},

	"target.title":  {"Targets", "目标"},
	"target.none":   {"There is no target yet.", "还没有目标。"},
	"target.queue":  {"%d parts, %s to go", "%d 个分段，剩 %s"},
	"target.queue1": {"1 part, %s to go", "1 个分段，剩 %s"},
	"target.empty":  {"nothing to send", "没有待传"},
	"target.done":   {"about %s at this rate", "按此速度约需 %s"},
	"target.oldest": {"oldest %s", "最早 %s"},
	"target.parked": {"%d waiting for you", "%d 个等待处理"},
	"target.copy":   {"not required", "非必需"},

	"disk.title":    {"Disk", "磁盘"},
	"disk.free":     {"free", "剩余"},
	"disk.full":     {"full in %s at this rate", "按此速度 %s 后写满"},
	"disk.short":    {"short in %s at this rate", "按此速度 %s 后空间不足"},
	"disk.steady":   {"not filling up", "没有变满"},
	"disk.ladder":   {"What happens as it fills", "空间不足时的处理"},
	"disk.ok":       {"above %s", "高于 %s"},
	"disk.okdo":     {"nothing is in a hurry", "一切正常"},
	"disk.low":      {"below %s", "低于 %s"},
	"disk.lowdo":    {"safe parts are freed at once, uploads first", "立即释放已安全的分段，上传优先"},
	"disk.stopdo":   {"rooms pause, least important first", "按优先级从低到高暂停房间"},
	"disk.now":      {"now", "当前"},
	"flow.title":    {"Flow", "流量"},
	"flow.in":       {"in", "接收"},
	"flow.out":      {"out", "发送"},
	"flow.unsafe":   {"on this disk only", "仅在本机"},
	"flow.bitrate":  {"bit rate", "码率"},
	"flow.uplink":   {"uplink", "上行"},
	"flow.short":    {"5 min", "5 分钟"},
	"flow.long":     {"6 h", "6 小时"},
	"flow.span":     {"Stretch of the plots", "图表时间范围"},
	"flow.plot":     {"Plot: %s", "图表：%s"},
	"flow.noscript": {"Plots need scripts; all of their numbers stand on this page.", "图表需要脚本；其数值均已在本页列出。"},

	"set.title":    {"Settings", "设置"},
	"set.readonly": {"This room stands in the config file and is changed there; the change is taken over by itself.", "此房间在配置文件中定义，请在那里修改，修改会自动生效。"},
	"set.save":     {"Save", "保存"},
	"set.add":      {"Watch this room", "监视此房间"},
	"set.more":     {"More settings", "更多设置"},
	"set.url":      {"Address of the room", "房间地址"},
	"set.urlh":     {"As in the browser, or an address that itself answers with FLV or HLS", "浏览器中的地址，或直接返回 FLV、HLS 的地址"},
	"set.name":     {"Name", "名称"},
	"set.nameh":    {"Empty: made from the address", "留空则由地址生成"},
	"set.to":       {"Targets", "目标"},
	"set.toh":      {"Names from the config file, separated by commas. Empty: the default", "配置文件中的名称，用逗号分隔。留空用默认"},
	"set.known":    {"Known: %s", "已有：%s"},
	"set.segment":  {"Length of a part", "分段时长"},
	"set.segmenth": {"15m, 1h", "15m、1h"},
	"set.max":      {"Largest size of a part", "分段最大大小"},
	"set.maxh":     {"4GiB", "4GiB"},
	"set.quality":  {"Quality", "画质"},
	"set.qualityh": {"auto, best, worst, a height such as 720, or the site's own name", "auto、best、worst、高度（如 720）或站点自己的名称"},
	"set.cont":     {"Container", "容器"},
	"set.ads":      {"Advertising", "广告"},
	"set.adsskip":  {"left out, as a gap", "跳过并记为缺口"},
	"set.adskeep":  {"recorded", "录制"},
	"set.default":  {"the default", "默认"},
	"set.grace":    {"Grace", "宽限时间"},
	"set.graceh":   {"How long it may be away within one broadcast: 60s", "同一场直播内允许中断多久：60s"},
	"set.titlet":   {"Title", "标题"},
	"set.titleh":   {"{streamer} {title} {date}", "{streamer} {title} {date}"},
	"set.window":   {"Record only between", "仅在此时段录制"},
	"set.windowh":  {"18:00-02:00", "18:00-02:00"},
	"set.skip":     {"Skip titles with", "跳过包含以下文字的标题"},
	"set.skiph":    {"One per line", "每行一个"},
	"set.priority": {"Priority", "优先级"},
	"set.prioh":    {"The higher, the later it pauses when the disk runs short", "数值越大，磁盘不足时越晚暂停"},
	"set.paused":   {"Begin paused", "添加后先暂停"},
	"set.exists":   {"A room with this name or address is there already.", "已有同名或同地址的房间。"},
	"set.wrong":    {"One thing has to be put right first.", "有一项需要先修正。"},
	"set.number":   {"%q is not a whole number", "%q 不是整数"},

	"hist.title":    {"Broadcasts", "直播记录"},
	"hist.of":       {"Broadcasts of %s", "%s 的直播记录"},
	"hist.all":      {"Of all rooms", "所有房间"},
	"hist.empty":    {"Nothing has been recorded yet.", "还没有录制内容。"},
	"hist.newest":   {"Newest", "最新"},
	"hist.older":    {"Older", "更早"},
	"hist.started":  {"Began", "开始"},
	"hist.room":     {"Room", "房间"},
	"hist.name":     {"Title", "标题"},
	"hist.length":   {"Length", "时长"},
	"hist.size":     {"Size", "大小"},
	"hist.parts":    {"Parts safe", "安全分段"},
	"hist.gaps":     {"Gaps", "缺口"},
	"hist.untitled": {"without a title", "无标题"},
	"hist.live":     {"live", "直播中"},
	"hist.safe":     {"safe", "安全"},
	"hist.unsafe":   {"not safe yet", "尚未安全"},
	"hist.see":      {"All broadcasts of this room", "此房间的全部直播"},

	"cast.now":       {"This broadcast", "本场直播"},
	"cast.whole":     {"All of it", "完整记录"},
	"cast.last":      {"The last broadcast", "上一场直播"},
	"cast.share":     {"%s recorded", "已录 %s"},
	"cast.proven":    {"%d of %d parts verified on %d targets", "%d / %d 个分段已在 %d 个目标上验证"},
	"cast.proven1":   {"%d of %d parts verified on 1 target", "%d / %d 个分段已在 1 个目标上验证"},
	"cast.parked":    {"%d waiting for you", "%d 个等待处理"},
	"cast.began":     {"Began", "开始"},
	"cast.ended":     {"Ended", "结束"},
	"cast.not":       {"not yet", "尚未"},
	"cast.line":      {"Time line", "时间线"},
	"cast.linealt":   {"Time line: %d parts, %d gaps", "时间线：%d 个分段，%d 个缺口"},
	"cast.part":      {"part", "分段"},
	"cast.gap":       {"gap", "缺口"},
	"cast.repair":    {"repair", "修复"},
	"cast.parts":     {"Parts", "分段"},
	"cast.noparts":   {"It has no part.", "没有分段。"},
	"cast.gaps":      {"Gaps", "缺口"},
	"cast.gapsay":    {"What was sent and is not here.", "对方已发送、但未录到的内容。"},
	"cast.repairs":   {"Repairs", "修复"},
	"cast.repsay":    {"Faults of the stream that were put right with nothing missing.", "流中的错误，已修正且没有丢失内容。"},
	"cast.when":      {"When", "时间"},
	"cast.where":     {"Behind", "位置"},
	"cast.before":    {"before the first part", "第一个分段之前"},
	"cast.missing":   {"Missing", "缺失"},
	"cast.why":       {"Why", "原因"},
	"cast.what":      {"What", "内容"},
	"cast.more":      {"and %d more", "另有 %d 个"},
	"cast.check":     {"SHA-256", "SHA-256"},
	"cast.frames":    {"Frames", "帧数"},
	"cast.framesn":   {"%d pictures, %d of sound", "%d 个画面，%d 个音频"},
	"cast.cut":       {"Closed by", "结束原因"},
	"cast.lies":      {"Here", "本机"},
	"cast.key":       {"Called there", "远端名称"},
	"cast.proof":     {"Proof", "证明"},
	"cast.error":     {"Error", "错误"},
	"cast.identity":  {"The count of frames does not balance: %s", "帧数核对不一致：%s"},
	"local.open":     {"open", "录制中"},
	"local.sealed":   {"on the disk", "在磁盘上"},
	"local.freed":    {"freed", "已释放"},
	"cut.time":       {"its length", "时长"},
	"cut.size":       {"its size", "大小"},
	"cut.header":     {"a change of the stream", "流参数变化"},
	"cut.split":      {"a command", "手动切分"},
	"cut.pause":      {"a pause", "暂停"},
	"cut.stop":       {"a stop", "停止"},
	"cut.end":        {"the end of the broadcast", "直播结束"},
	"cut.recovered":  {"a restart", "重启恢复"},
	"way.due":        {"to be sent", "待传"},
	"way.opening":    {"being opened", "准备中"},
	"way.uploading":  {"on its way", "上传中"},
	"way.committing": {"being completed", "合并中"},
	"way.committed":  {"there, not proven yet", "已到达，待验证"},
	"way.verified":   {"verified", "已验证"},
	"way.parked":     {"waits for you", "等待处理"},

	"login.title":    {"Sign in", "登录"},
	"login.password": {"Password", "密码"},
	"login.go":       {"Sign in", "登录"},
	"login.wrong":    {"That is not the password.", "密码不正确。"},
	"login.wait":     {"Too many tries. Wait %s.", "尝试次数过多，请等待 %s。"},
	"login.where":    {"It stands in the file that the config names as password-file.", "密码在配置中 password-file 所指的文件里。"},

	"key.title":   {"Access for programs", "程序访问"},
	"key.say":     {"A token lets a script use the API at /api/v1/. It is shown once; only its hash is kept.", "令牌让脚本可以使用 /api/v1/ 接口。令牌只显示一次，仅保存其哈希。"},
	"key.new":     {"New token", "新建令牌"},
	"key.label":   {"What it is for", "用途"},
	"key.scope":   {"It may", "权限"},
	"key.read":    {"read", "只读"},
	"key.write":   {"read and command", "读写"},
	"key.make":    {"Make a token", "生成令牌"},
	"key.once":    {"Copy it now, it cannot be shown again:", "请立即复制，之后无法再次显示："},
	"key.none":    {"There is no token.", "没有令牌。"},
	"key.made":    {"Made", "创建"},
	"key.used":    {"Last used", "最近使用"},
	"key.never":   {"never", "从未"},
	"key.end":     {"Revoke", "撤销"},
	"key.endit":   {"Revoke the token %s", "撤销令牌 %s"},
	"key.ended":   {"The token was revoked.", "令牌已撤销。"},
	"key.refused": {"The token was not made: %s", "令牌未生成：%s"},
}

// t is a text of the table. Only what follows as args comes from outside; templates escape it.
func (l lang) t(key string, args ...any) string {
	line, ok := table[key]
	if !ok {
		panic("page: no text " + key) // a test walks all of them
	}
	if len(args) == 0 {
		return line[l]
	}
	return fmt.Sprintf(line[l], args...)
}

// span says a duration as a person does; two units at the most, and from a minute on no fraction.
func (l lang) span(d time.Duration) string {
	if l == english {
		return status.Span(max(d, 0))
	}
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(d.Seconds(), 'f', 1, 64), ".0") + " 秒"
	case d < time.Minute:
		return fmt.Sprintf("%.0f 秒", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return strings.TrimSuffix(fmt.Sprintf("%d 分 %d 秒", int(d.Minutes()), int(d.Seconds())%60), " 0 秒")
	}
	d = d.Round(time.Minute)
	return strings.TrimSuffix(fmt.Sprintf("%d 小时 %d 分", int(d.Hours()), int(d.Minutes())%60), " 0 分")
}

// about says a duration with one unit: what stands on a page for long must not change every second.
func (l lang) about(d time.Duration) string {
	word := func(n int, i int) string {
		unit := [...][langs]string{{"s", "秒"}, {"min", "分钟"}, {"h", "小时"}, {"days", "天"}}[i][l]
		if l == english && i == 3 && n == 1 {
			unit = "day"
		}
		return fmt.Sprintf("%d %s", n, unit)
	}
	switch d = max(d, 0); {
	case d < time.Minute:
		return word(int(d.Seconds()), 0)
	case d < 100*time.Minute:
		return word(int(d.Minutes()), 1)
	case d < 48*time.Hour:
		return word(int(math.Round(d.Hours())), 2)
	}
	return word(int(math.Round(d.Hours()/24)), 3)
}

// gaps says how much is missing.
func (l lang) gaps(n int, missing time.Duration) string {
	switch n {
	case 0:
		return l.t("room.gaps0")
	case 1:
		return l.t("room.gaps1", l.span(missing))
	}
	return l.t("room.gaps", n, l.span(missing))
}
